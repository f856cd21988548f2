-- A page of the sessions behind a key.
SELECT agent, name, size, extract(epoch FROM modified_at)::float8 AS modified
FROM turnlock.session
WHERE (agent, name) > (%(agent)s, %(name)s)
ORDER BY agent, name
LIMIT %(most)s
