DELETE FROM turnlock.waiter WHERE ticket = %(ticket)s
