SELECT id FROM turnlock.entry WHERE session_id = %(session_id)s AND byte_offset = 0
