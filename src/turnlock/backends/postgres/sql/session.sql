SELECT agent, name, size, extract(epoch FROM modified_at)::float8 AS modified
FROM turnlock.session
WHERE agent = %(agent)s AND name = %(name)s
