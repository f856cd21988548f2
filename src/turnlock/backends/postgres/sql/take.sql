-- Take a session that is there, if it is free, or its lease is over, or its holder is past its
-- limit; and if nobody stands in front in the line, or they let it lie.
WITH claimed AS (
    UPDATE turnlock.session AS s
    SET {claim},
        owed = CASE WHEN s.held THEN {owed} || jsonb_build_array(jsonb_build_object(
            'turnId', s.turn_id,
            'pid', s.pid,
            'epoch', s.epoch,
            'gateway', s.gateway,
            'reason', CASE WHEN s.lease_until <= turnlock.clock()
                THEN 'interrupted' ELSE 'hold-limit' END,
            'held', extract(epoch FROM turnlock.clock() - s.taken_at)::float8
        )) ELSE '[]' END
    WHERE s.agent = %(agent)s AND s.name = %(name)s
        AND (
            NOT s.held
            OR s.lease_until <= turnlock.clock()
            OR s.taken_at + make_interval(secs => s.max_hold + %(grace)s) <= turnlock.clock()
        )
        AND (
            NOT EXISTS (
                SELECT FROM turnlock.waiter AS w
                WHERE w.session_id = s.id AND w.ticket < %(ticket)s
                    AND NOT w.passed AND w.alive_until > turnlock.clock()
            )
            OR make_interval(secs => %(patience)s) + CASE
                WHEN NOT s.held THEN s.free_since
                ELSE least(
                    s.lease_until,
                    s.taken_at + make_interval(secs => s.max_hold + %(grace)s)
                )
            END <= turnlock.clock()
            -- The clock has jumped back: when it was set free is still to come.
            OR NOT s.held AND s.free_since > turnlock.clock() + interval '10 seconds'
        )
    RETURNING s.id, s.epoch, s.size, s.owed
), passed AS (
    UPDATE turnlock.waiter AS w
    SET passed = true
    FROM claimed
    WHERE w.session_id = claimed.id AND w.ticket < %(ticket)s AND NOT w.passed
), left_the_line AS (
    DELETE FROM turnlock.waiter WHERE ticket = %(ticket)s AND EXISTS (SELECT FROM claimed)
)
SELECT id, epoch, size, owed FROM claimed
