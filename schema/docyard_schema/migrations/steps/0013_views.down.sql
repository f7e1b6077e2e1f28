DROP VIEW docyard.workers, docyard.throughput, docyard.job_latency;

CREATE VIEW docyard.workers AS
SELECT worker.id, worker.host, worker.pid, worker.queues,
    (SELECT count(*) FROM docyard.procrastinate_jobs AS job
     WHERE job.worker_id = worker.id AND job.status = 'doing') AS running,
    worker.started_at,
    worker.last_heartbeat AS heartbeat_at,
    CASE WHEN worker.last_heartbeat
            < docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10))
        THEN 'lost' ELSE worker.state END AS state
FROM docyard.procrastinate_workers AS worker;

CREATE OR REPLACE VIEW docyard.jobs AS
SELECT job.id,
    job.task_name AS kind,
    job.queue_name AS queue,
    docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
    job.priority,
    job.attempts,
    job.max_attempts,
    job.lock AS lock_key,
    job.queueing_lock AS unique_key,
    job.batch_id,
    job.worker_id,
    job.created_at,
    coalesce(job.scheduled_at, job.created_at) AS run_at,
    job.started_at,
    job.finished_at,
    job.error_code,
    job.error_message,
    job.progress
FROM docyard.procrastinate_jobs AS job;

CREATE OR REPLACE VIEW docyard.queue_stats AS
SELECT coalesce(counted.queue, queue.name) AS queue,
    coalesce(queue.paused, false) AS paused,
    coalesce(counted.scheduled, 0) AS scheduled,
    coalesce(counted.available, 0) AS available,
    coalesce(counted.running, 0) AS running,
    coalesce(counted.retryable, 0) AS retryable,
    coalesce(counted.dead, 0) AS dead,
    coalesce(counted.completed_24h, 0) AS completed_24h,
    counted.oldest_available_s
FROM (
    SELECT part.queue,
        (sum(part.jobs) FILTER (WHERE part.state = 'scheduled'))::bigint AS scheduled,
        (sum(part.jobs) FILTER (WHERE part.state = 'available'))::bigint AS available,
        (sum(part.jobs) FILTER (WHERE part.state = 'running'))::bigint AS running,
        (sum(part.jobs) FILTER (WHERE part.state = 'retryable'))::bigint AS retryable,
        (sum(part.jobs) FILTER (WHERE part.state = 'dead'))::bigint AS dead,
        (sum(part.jobs) FILTER (WHERE part.state = 'completed'))::bigint AS completed_24h,
        extract(epoch FROM docyard.clock() - min(part.since) FILTER (WHERE part.state = 'available'))
            AS oldest_available_s
    FROM (
        SELECT job.queue_name AS queue, docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
            count(*) AS jobs, min(coalesce(job.scheduled_at, job.created_at)) AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo'
        GROUP BY 1, 2
        -- Every branch names its columns: else a dump writes names of Postgres's own, and the restored view
        -- would look like drift.
        UNION ALL
        -- Whoever claims writes its number down; the index of running jobs holds those that have one.
        SELECT job.queue_name AS queue, 'running' AS state, count(*) AS jobs, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'doing' AND job.worker_id IS NOT NULL
        GROUP BY 1
        UNION ALL
        SELECT job.queue_name AS queue, 'dead' AS state, count(*) AS jobs, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'failed'
        GROUP BY 1
        UNION ALL
        SELECT job.queue_name AS queue, 'completed' AS state, count(*) AS jobs, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'succeeded' AND job.finished_at > docyard.clock() - interval '24 hours'
        GROUP BY 1
    ) AS part
    GROUP BY part.queue
) AS counted
FULL JOIN docyard.queues AS queue ON queue.name = counted.queue;

DROP INDEX docyard.jobs_retryable_idx;
DROP TABLE docyard.job_minutes_progress, docyard.job_minutes;
