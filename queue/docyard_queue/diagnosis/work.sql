-- name: workers
SELECT id, host, pid, state, running,
    extract(epoch FROM docyard.clock() - heartbeat_at)::double precision AS silent_seconds
FROM docyard.workers ORDER BY id;

-- name: queues
SELECT queue, paused, available, retryable, scheduled, running, oldest_available_s::double precision
FROM docyard.queue_stats ORDER BY queue;

-- name: orphans
-- Both counts in one statement, and so of one moment.
SELECT (SELECT coalesce(sum(running), 0) FROM docyard.queue_stats)::bigint
    - (SELECT coalesce(sum(running), 0) FROM docyard.workers WHERE state <> 'lost')::bigint;

-- name: unserved
-- Waiting jobs that no living worker would take: none serves their queue, or none of those has their handler.
SELECT waiting.queue_name, waiting.task_name, waiting.jobs
FROM (
    SELECT job.queue_name, job.task_name, count(*) AS jobs
    FROM (
        -- By the four indexes of what waits.
        SELECT queue_name, task_name FROM docyard.procrastinate_jobs
        WHERE status = 'todo' AND scheduled_at IS NULL AND partition_key IS NULL AND parked IS NULL
        UNION ALL
        SELECT queue_name, task_name FROM docyard.procrastinate_jobs
        WHERE status = 'todo' AND scheduled_at IS NULL AND partition_key IS NULL AND parked
        UNION ALL
        SELECT queue_name, task_name FROM docyard.procrastinate_jobs
        WHERE status = 'todo' AND scheduled_at IS NOT NULL AND partition_key IS NULL
        UNION ALL
        SELECT queue_name, task_name FROM docyard.procrastinate_jobs
        WHERE status = 'todo' AND partition_key IS NOT NULL
    ) AS job
    GROUP BY 1, 2
) AS waiting
WHERE NOT EXISTS (
    SELECT FROM docyard.workers AS worker
    WHERE worker.state <> 'lost'
        AND (worker.queues IS NULL OR waiting.queue_name = ANY (worker.queues))
        AND (worker.kinds IS NULL OR waiting.task_name = ANY (worker.kinds))
)
ORDER BY waiting.jobs DESC
LIMIT 5;

-- name: dead_letters
SELECT count(*), mode() WITHIN GROUP (ORDER BY kind), mode() WITHIN GROUP (ORDER BY coalesce(error_code, 'unknown'))
FROM docyard.dead_letters WHERE finished_at > docyard.clock() - interval '24 hours';
