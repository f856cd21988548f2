-- Who waits is alive. A crash of the server has emptied the table, a clean-up may have; and the
-- session of that name may be another by now.
INSERT INTO turnlock.waiter (ticket, session_id, gateway, alive_until)
VALUES (
    %(ticket)s, %(session_id)s, %(gateway)s,
    turnlock.clock() + make_interval(secs => %(alive)s)
)
ON CONFLICT (ticket) DO UPDATE SET
    session_id = excluded.session_id, alive_until = excluded.alive_until, passed = false
