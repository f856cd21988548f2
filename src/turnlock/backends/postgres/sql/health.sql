-- What an operator should know of the database. What the role may not see is null.
SELECT
    extract(epoch FROM turnlock.clock())::float8 AS now,
    (SELECT max(version) FROM turnlock.migration) AS version,
    (SELECT count(*) FROM pg_index AS i
        JOIN pg_class AS t ON t.oid = i.indrelid
        JOIN pg_namespace AS n ON n.oid = t.relnamespace
        WHERE n.nspname = 'turnlock' AND i.indisvalid AND i.indisready) AS indexes,
    (SELECT n_dead_tup FROM pg_stat_all_tables
        WHERE schemaname = 'turnlock' AND relname = 'session') AS dead_rows,
    (SELECT n_live_tup FROM pg_stat_all_tables
        WHERE schemaname = 'turnlock' AND relname = 'session') AS live_rows,
    (SELECT extract(epoch FROM now() - min(xact_start))::float8 FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()) AS oldest_transaction,
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AS is_durable
