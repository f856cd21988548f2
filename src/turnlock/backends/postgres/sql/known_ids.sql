SELECT DISTINCT id FROM turnlock.entry
WHERE session_id = %(session_id)s AND id = ANY (%(ids)s::text[])
