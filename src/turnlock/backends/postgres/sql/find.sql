-- Where the first entry with an id is.
SELECT e.byte_offset
FROM turnlock.session AS s
JOIN turnlock.entry AS e ON e.session_id = s.id
WHERE s.agent = %(agent)s AND s.name = %(name)s AND e.id = %(id)s
ORDER BY e.byte_offset
LIMIT 1
