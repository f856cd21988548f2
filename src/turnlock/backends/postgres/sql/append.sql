-- Write lines, if the lease still has the session and knew its end. An append is progress, so it
-- extends the lease as well. Of a text with nothing in it `string_to_array` makes no line.
WITH fence AS (
    UPDATE turnlock.session
    SET size = size + %(bytes)s,
        modified_at = turnlock.clock(),
        lease_until = turnlock.clock() + make_interval(secs => %(lease_time)s)
    WHERE id = %(session_id)s AND epoch = %(epoch)s AND gateway = %(gateway)s AND held
        AND size = %(size)s
    RETURNING id, epoch
), written AS (
    INSERT INTO turnlock.entry (session_id, byte_offset, epoch, id, line)
    SELECT fence.id, lines.byte_offset, fence.epoch, lines.id, coalesce(lines.line, '')
    FROM fence, unnest(
        %(offsets)s::bigint[], %(ids)s::text[], string_to_array(%(lines)s, E'\n')
    ) AS lines (byte_offset, id, line)
)
SELECT id FROM fence
