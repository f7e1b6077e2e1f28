-- name: state
-- How many vectors a model has by the planner's estimate, whether its index is there and valid, and how far one
-- that is being built has come. The view of progress tells others' work only to who may read statistics.
SELECT greatest(partition.reltuples, 0)::bigint AS vectors, index.indisvalid AS valid, progress.phase,
    coalesce(progress.blocks_done::double precision / nullif(progress.blocks_total, 0), 0) AS done
FROM pg_catalog.pg_class AS partition
JOIN pg_catalog.pg_namespace AS n ON n.oid = partition.relnamespace
LEFT JOIN (
    pg_catalog.pg_index AS index
    JOIN pg_catalog.pg_class AS c ON c.oid = index.indexrelid
    JOIN pg_catalog.pg_am AS method ON method.oid = c.relam AND method.amname = 'hnsw'
) ON index.indrelid = partition.oid
LEFT JOIN pg_catalog.pg_stat_progress_create_index AS progress ON progress.relid = partition.oid
    AND progress.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
WHERE n.nspname = %(schema)s AND partition.relname = %(partition)s
ORDER BY index.indisvalid DESC NULLS LAST, progress.phase LIMIT 1;

-- name: is_valid
SELECT i.indisvalid
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(index)s;
