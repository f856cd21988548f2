-- The schema's version, and the oldest program's that can work with it.
SELECT version, works_with FROM turnlock.migration ORDER BY version DESC LIMIT 1
