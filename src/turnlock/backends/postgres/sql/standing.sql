-- How the session stands for a lease, and what was written last from where it knew the end.
SELECT s.epoch = %(epoch)s AND s.gateway = %(gateway)s AND s.held AS has_it,
    s.epoch, s.held, s.size, (
    SELECT e.line FROM turnlock.entry AS e
    WHERE e.session_id = s.id AND e.byte_offset = %(size)s AND e.epoch = %(epoch)s
) AS line
FROM turnlock.session AS s
WHERE s.id = %(session_id)s
