-- name: list_queues
SELECT stats.queue AS name, stats.paused, queue.paused_reason AS reason,
    CASE WHEN stats.paused THEN queue.updated_at END AS paused_at,
    stats.scheduled, stats.available, stats.running, stats.retryable, stats.dead, stats.completed_24h,
    stats.oldest_available_s::double precision AS oldest_available_s
FROM docyard.queue_stats AS stats
LEFT JOIN docyard.queues AS queue ON queue.name = stats.queue
ORDER BY stats.queue;

-- name: pause
-- A queue that nobody has used yet can be paused too: its first jobs will wait.
INSERT INTO docyard.queues (name, paused, paused_reason, updated_at)
VALUES (%(name)s, true, %(reason)s, docyard.clock())
ON CONFLICT (name) DO UPDATE SET paused = true,
    paused_reason = CASE WHEN queues.paused AND %(keep_reason)s::boolean
        THEN queues.paused_reason ELSE excluded.paused_reason END,
    -- Paused since the first time, whatever the reason is by now.
    updated_at = CASE WHEN queues.paused THEN queues.updated_at ELSE excluded.updated_at END;

-- name: resume
UPDATE docyard.queues SET paused = false, paused_reason = NULL, updated_at = docyard.clock()
WHERE name = %(name)s AND paused
RETURNING name;

-- name: wake_next
-- What a producer's insert would have said, of the next job for each lock key and of one in each queue: one notice per
-- queue, none where nothing waits. A full NOTIFY queue would fail the commit, and polling finds the jobs as well.
WITH next AS (
    SELECT found.queue_name, found.id
    FROM unnest(%(locks)s::text[]) AS freed (lock) CROSS JOIN LATERAL (
        SELECT job.queue_name, job.id FROM docyard.procrastinate_jobs AS job
        WHERE job.lock = freed.lock AND job.status = 'todo'
            AND (job.scheduled_at IS NULL OR job.scheduled_at <= docyard.clock())
        ORDER BY job.priority DESC, job.id
        LIMIT 1
    ) AS found
    UNION ALL
    SELECT found.queue_name, found.id
    FROM unnest(%(queues)s::text[]) AS freed (queue) CROSS JOIN LATERAL (
        SELECT ready.* FROM (
            SELECT job.queue_name, job.id FROM docyard.procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL
                AND job.parked IS NULL
                AND job.queue_name = freed.queue
            ORDER BY job.priority DESC, job.id LIMIT 1
        ) AS ready
        UNION ALL
        SELECT keyed.* FROM (
            SELECT job.queue_name, job.id FROM docyard.procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.partition_key IS NOT NULL AND job.queue_name = freed.queue
            ORDER BY job.partition_key LIMIT 1
        ) AS keyed
        UNION ALL
        SELECT due.* FROM (
            SELECT job.queue_name, job.id FROM docyard.procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
                AND job.queue_name = freed.queue
            ORDER BY job.priority DESC, job.scheduled_at, job.id LIMIT 1
        ) AS due
        LIMIT 1
    ) AS found
), arrived AS (
    SELECT next.queue_name, json_build_object('type', 'job_inserted', 'job_id', min(next.id))::text AS message
    FROM next GROUP BY next.queue_name
)
SELECT pg_notify(channel.name, arrived.message)
FROM arrived CROSS JOIN LATERAL (
    VALUES ('procrastinate_any_queue_v1'), ('procrastinate_queue_v1#' || arrived.queue_name)
) AS channel (name)
WHERE pg_notification_queue_usage() <= 0.5 AND octet_length(channel.name) < 64;
