-- Leave the claim behind with its lease over: the next taker pays what it owes.
UPDATE turnlock.session
SET lease_until = '-infinity'
WHERE id = %(session_id)s AND epoch = %(epoch)s AND gateway = %(gateway)s AND held
RETURNING id
