-- Make a session, held from the start. Gives nothing when it is there by now.
WITH made AS (
    INSERT INTO turnlock.session (
        agent, name, size, modified_at, held, turn_id, gateway, host, pid,
        taken_at, max_hold, lease_until
    )
    VALUES (
        %(agent)s, %(name)s, %(bytes)s, turnlock.clock(), true, %(turn_id)s, %(gateway)s,
        %(host)s, %(pid)s, turnlock.clock(), %(max_hold)s,
        turnlock.clock() + make_interval(secs => %(lease_time)s)
    )
    ON CONFLICT (agent, name) DO NOTHING
    RETURNING id, epoch, size, owed
), first AS (
    INSERT INTO turnlock.entry (session_id, byte_offset, epoch, id, line)
    SELECT made.id, 0, made.epoch, %(header_id)s, %(header)s FROM made WHERE %(bytes)s > 0
)
SELECT id, epoch, size, owed FROM made
