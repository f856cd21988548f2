-- A place at the end of the line, if there is such a session; the ticket in any case. Places of the
-- dead go.
WITH gone AS (
    DELETE FROM turnlock.waiter WHERE ticket IN (
        SELECT w.ticket
        FROM turnlock.waiter AS w
        JOIN turnlock.session AS s ON s.id = w.session_id
        WHERE s.agent = %(agent)s AND s.name = %(name)s
            AND w.alive_until < turnlock.clock() - interval '1 minute'
        FOR UPDATE OF w SKIP LOCKED
    )
), mine AS MATERIALIZED (
    SELECT nextval('turnlock.ticket') AS ticket
), placed AS (
    INSERT INTO turnlock.waiter (ticket, session_id, gateway, alive_until)
    SELECT mine.ticket, s.id, %(gateway)s,
        turnlock.clock() + make_interval(secs => %(alive)s)
    FROM mine, turnlock.session AS s
    WHERE s.agent = %(agent)s AND s.name = %(name)s
)
SELECT ticket FROM mine
