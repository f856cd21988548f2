-- Take a session away with its entries and its line, if the lease has it and nothing was added.
WITH gone AS (
    DELETE FROM turnlock.session
    WHERE id = %(session_id)s AND epoch = %(epoch)s AND gateway = %(gateway)s AND held
        AND size = %(size)s
    RETURNING id
), entries AS (
    DELETE FROM turnlock.entry AS e USING gone WHERE e.session_id = gone.id
), line AS (
    DELETE FROM turnlock.waiter AS w USING gone WHERE w.session_id = gone.id
)
SELECT id FROM gone
