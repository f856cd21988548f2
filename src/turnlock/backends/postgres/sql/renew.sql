-- Extend leases, all in one go, and say of each how it stands. Not one that was left behind to owe,
-- nor one whose session was taken. A row that somebody has locked is passed over and asked for
-- again: it must not keep all the others waiting.
WITH asked AS (
    SELECT * FROM unnest(%(session_ids)s::bigint[], %(epochs)s::bigint[]) AS asked (id, epoch)
), free AS (
    SELECT s.id
    FROM asked
    JOIN turnlock.session AS s ON s.id = asked.id AND s.epoch = asked.epoch
    WHERE s.gateway = %(gateway)s AND s.held AND s.lease_until <> '-infinity'
    FOR NO KEY UPDATE OF s SKIP LOCKED
), renewed AS (
    UPDATE turnlock.session AS s
    SET lease_until = turnlock.clock() + make_interval(secs => %(lease_time)s)
    FROM free
    WHERE s.id = free.id
    RETURNING s.id, s.epoch
)
SELECT asked.id, asked.epoch, renewed.id IS NOT NULL AS renewed,
    renewed.id IS NOT NULL OR EXISTS (
        SELECT FROM turnlock.session AS s
        WHERE s.id = asked.id AND s.epoch = asked.epoch
            AND s.gateway = %(gateway)s AND s.held AND s.lease_until <> '-infinity'
    ) AS has_it
FROM asked
LEFT JOIN renewed ON renewed.id = asked.id AND renewed.epoch = asked.epoch
