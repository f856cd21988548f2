-- Give the session back.
UPDATE turnlock.session
SET held = false, turn_id = NULL, gateway = NULL, host = NULL, pid = NULL, taken_at = NULL,
    max_hold = NULL, lease_until = NULL, free_since = turnlock.clock(), owed = '[]'
WHERE id = %(session_id)s AND epoch = %(epoch)s AND gateway = %(gateway)s AND held
RETURNING id
