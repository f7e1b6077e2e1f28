-- name: limits_of
SELECT queue.concurrency, queue.key_concurrency, queue.rate, queue.rate_seconds, queue.key_rate,
    queue.key_rate_seconds, queue.max_depth
FROM docyard.queues AS queue WHERE queue.name = %(name)s;

-- name: set_limits
INSERT INTO docyard.queues AS queue
    (name, concurrency, key_concurrency, rate, rate_seconds, key_rate, key_rate_seconds, max_depth)
VALUES (%(name)s, %(concurrency)s, %(key_concurrency)s, %(rate)s, %(rate_seconds)s, %(key_rate)s,
    %(key_rate_seconds)s, %(max_depth)s)
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
    rate = excluded.rate, rate_seconds = excluded.rate_seconds, key_rate = excluded.key_rate,
    key_rate_seconds = excluded.key_rate_seconds, max_depth = excluded.max_depth;

-- name: count_running
-- Jobs that began before there was a limit count in it too.
UPDATE docyard.procrastinate_jobs AS job SET counted = true
WHERE job.id = ANY (ARRAY (
    SELECT running.id FROM docyard.procrastinate_jobs AS running
    WHERE running.status = 'doing' AND running.worker_id IS NOT NULL AND running.queue_name = %(name)s
        AND running.counted IS NULL
    ORDER BY running.id
    FOR UPDATE
));
