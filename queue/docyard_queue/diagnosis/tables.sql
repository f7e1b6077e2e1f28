-- name: dead_rows
-- The tables that every job writes to.
SELECT tables.relname, tables.n_live_tup, tables.n_dead_tup, extract(epoch FROM
    clock_timestamp() - greatest(tables.last_autovacuum, tables.last_vacuum))::double precision AS vacuumed_seconds
FROM pg_stat_user_tables AS tables
WHERE tables.schemaname = %(schema)s
    AND tables.relname IN ('procrastinate_jobs', 'job_attempts', 'procrastinate_workers', 'unique_keys', 'job_minutes')
ORDER BY tables.n_dead_tup DESC;

-- name: without_autovacuum
SELECT class.relname
FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
CROSS JOIN LATERAL unnest(class.reloptions) AS option (text)
WHERE namespace.nspname = %(schema)s AND option.text IN ('autovacuum_enabled=false', 'autovacuum_enabled=off')
ORDER BY class.relname;

-- name: invalid_indexes
-- Left behind by a CREATE INDEX CONCURRENTLY that failed. One that is being built is invalid as well.
SELECT class.relname
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = %(schema)s AND NOT index.indisvalid
    AND NOT EXISTS (
        SELECT FROM pg_stat_progress_create_index AS building WHERE building.index_relid = index.indexrelid
    )
ORDER BY class.relname;
