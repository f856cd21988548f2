-- What a claim sets, by whichever statement it is put: a part of take.sql and of supersede.sql.
epoch = s.epoch + 1,
held = true,
turn_id = %(turn_id)s,
gateway = %(gateway)s,
host = %(host)s,
pid = %(pid)s,
taken_at = turnlock.clock(),
max_hold = %(max_hold)s,
lease_until = turnlock.clock() + make_interval(secs => %(lease_time)s),
free_since = NULL
