-- name: kinds
-- From the table and not from the view, whose state costs a function call per job.
SELECT task_name, count(*), count(*) FILTER (WHERE status NOT IN ('todo', 'doing')),
    count(*) FILTER (WHERE status = 'failed')
FROM docyard.procrastinate_jobs
WHERE batch_id = %(batch)s
GROUP BY 1;

-- name: results
SELECT result ->> 'status', count(*)
FROM docyard.procrastinate_jobs
WHERE batch_id = %(batch)s AND status = 'succeeded' AND result ? 'status'
GROUP BY 1;

-- name: totals
SELECT count(*),
    count(*) FILTER (WHERE status = 'failed'),
    coalesce(sum((result ->> 'chunks')::bigint), 0)::bigint,
    coalesce(sum((result ->> 'embedded')::bigint), 0)::bigint,
    coalesce(sum((result ->> 'reused')::bigint), 0)::bigint,
    -- An application's own results may have the same words for other things.
    coalesce(sum((result ->> 'tokens')::bigint) FILTER (WHERE task_name IN ('embed', 'backfill')), 0)::bigint,
    sum((result ->> 'cost')::numeric) FILTER (WHERE task_name IN ('embed', 'backfill')),
    coalesce(extract(epoch FROM max(finished_at) - min(started_at)), 0)::double precision
FROM docyard.procrastinate_jobs
WHERE batch_id = %(batch)s;

-- name: failures
SELECT id, coalesce(args ->> 'source', args ->> 'document_id', ''), coalesce(error_code, ''),
    coalesce(error_message, '')
FROM docyard.procrastinate_jobs
WHERE batch_id = %(batch)s AND status = 'failed'
ORDER BY id
LIMIT %(limit)s;
