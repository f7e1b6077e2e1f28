-- name: coverage
-- Added up over kinds. A store without a chunk has no rows here.
SELECT model, sum(chunks)::bigint AS chunks, sum(embedded)::bigint AS embedded, sum(missing)::bigint AS missing,
    sum(failed)::bigint AS failed
FROM docyard.embedding_coverage GROUP BY model;

-- name: size
SELECT coalesce(pg_total_relation_size(to_regclass(%(table)s)), 0);
