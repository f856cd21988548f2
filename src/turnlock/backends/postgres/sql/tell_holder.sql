-- Have the gateway of a holder that was superseded look.
SELECT pg_notify('turnlock', id::text)
FROM turnlock.session
WHERE agent = %(agent)s AND name = %(name)s
