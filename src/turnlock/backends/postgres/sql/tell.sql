-- Wake whoever waits for the session, if anybody does. A statement of its own, so that it sees a
-- waiter that looked at the session before this transaction had locked it.
SELECT pg_notify('turnlock', %(session_id)s::text)
WHERE EXISTS (SELECT FROM turnlock.waiter WHERE session_id = %(session_id)s)
