-- Who holds a session.
SELECT id, epoch, held AND lease_until > turnlock.clock() AS held, turn_id, pid, max_hold,
    extract(epoch FROM turnlock.clock() - taken_at)::float8 AS age
FROM turnlock.session
WHERE agent = %(agent)s AND name = %(name)s
