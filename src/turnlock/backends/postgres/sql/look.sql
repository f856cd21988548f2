-- In how many seconds the session may be taken, and whether anybody stands in front. Locks the
-- row: a release that is under way is waited for, and one that comes later sees who waits.
SELECT CASE
        -- The clock has jumped back.
        WHEN NOT s.held AND s.free_since > turnlock.clock() + interval '10 seconds' THEN -1e9
        WHEN NOT s.held THEN extract(epoch FROM s.free_since - turnlock.clock())
        WHEN s.lease_until = '-infinity' THEN -1e9
        ELSE extract(epoch FROM least(
            s.lease_until, s.taken_at + make_interval(secs => s.max_hold + %(grace)s)
        ) - turnlock.clock())
    END::float8 AS ready_in,
    EXISTS (
        SELECT FROM turnlock.waiter AS w
        WHERE w.session_id = s.id AND w.ticket < %(ticket)s
            AND NOT w.passed AND w.alive_until > turnlock.clock()
    ) AS somebody_in_front
FROM turnlock.session AS s
WHERE s.id = %(session_id)s
FOR SHARE OF s
