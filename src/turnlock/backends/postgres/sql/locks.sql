-- Every claim, one session's, or those whose leases ran out, with what the judgement needs.
SELECT agent, name, turn_id, pid, host, max_hold, epoch, gateway,
    CASE WHEN isfinite(lease_until)
        THEN greatest(0, extract(epoch FROM lease_until - turnlock.clock())::float8)
        ELSE 0 END AS lease_left,
    extract(epoch FROM turnlock.clock() - taken_at)::float8 AS age,
    lease_until <= turnlock.clock() AS expired
FROM turnlock.session
WHERE held
    AND (%(agent)s::text IS NULL OR (agent = %(agent)s::text AND name = %(name)s::text))
    AND (NOT %(expired)s OR lease_until <= turnlock.clock())
ORDER BY agent, name
