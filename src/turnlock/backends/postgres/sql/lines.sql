-- The lines that have a byte between two offsets.
SELECT e.byte_offset, e.line
FROM turnlock.session AS s
JOIN turnlock.entry AS e ON e.session_id = s.id
WHERE s.agent = %(agent)s AND s.name = %(name)s
    AND e.byte_offset < %(stop)s
    AND e.byte_offset >= coalesce((
        SELECT max(b.byte_offset)
        FROM turnlock.entry AS b
        WHERE b.session_id = s.id AND b.byte_offset <= %(start)s
    ), 0)
ORDER BY e.byte_offset
