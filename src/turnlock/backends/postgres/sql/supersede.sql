-- Put a claim in place of another's: of the one with this epoch, or of whoever holds as this turn,
-- or only of one whose lease is over.
UPDATE turnlock.session AS s
SET {claim},
    owed = {owed} || jsonb_build_array(jsonb_build_object(
        'turnId', s.turn_id,
        'pid', s.pid,
        'epoch', s.epoch,
        'gateway', s.gateway,
        'reason', CASE WHEN %(epoch)s::bigint IS NULL AND s.lease_until <= turnlock.clock()
            THEN 'interrupted' ELSE %(reason)s END,
        'held', extract(epoch FROM turnlock.clock() - s.taken_at)::float8
    ))
WHERE s.agent = %(agent)s AND s.name = %(name)s AND s.held
    AND (%(epoch)s::bigint IS NULL OR (
        s.id = %(session_id)s AND s.epoch = %(epoch)s::bigint AND s.gateway = %(from_gateway)s
    ))
    AND (%(whoever)s OR s.turn_id IS NOT DISTINCT FROM %(from_turn)s)
    AND (NOT %(only_expired)s OR s.lease_until <= turnlock.clock())
RETURNING s.id, s.epoch, s.size, s.owed
