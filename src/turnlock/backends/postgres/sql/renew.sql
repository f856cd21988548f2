-- Extend a lease. Not one that was left behind to owe, nor one whose session was taken.
UPDATE turnlock.session
SET lease_until = turnlock.clock() + make_interval(secs => %(lease_time)s)
WHERE id = %(session_id)s AND epoch = %(epoch)s AND held AND lease_until <> '-infinity'
RETURNING epoch
