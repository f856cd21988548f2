SELECT extract(epoch FROM turnlock.clock())::float8 AS now
