-- What operators need: who can run a kind, deletion by age, and statistics that stay quick over millions of rows.

ALTER TABLE docyard.procrastinate_workers
    -- What the worker has handlers for. NULL: it did not say (a worker of an earlier release).
    ADD COLUMN kinds text[];

-- Completed jobs by the time of their end: prune reads it from its old end, completed_24h from its new one. Jobs
-- that were completed in one statement share one time, and with equal keys an entry costs eight bytes.
CREATE INDEX jobs_completed_idx ON docyard.procrastinate_jobs (finished_at, queue_name) WHERE status = 'succeeded';
-- The same for cancelled ones. procrastinate's own client notes no time of their end.
CREATE INDEX jobs_cancelled_idx ON docyard.procrastinate_jobs ((coalesce(finished_at, created_at)))
    WHERE status IN ('cancelled', 'aborting', 'aborted');
-- Dead letters are counted by queue without reading them; they are pruned by jobs_failed_idx.
CREATE INDEX jobs_dead_queue_idx ON docyard.procrastinate_jobs (queue_name) WHERE status = 'failed';

-- Each state is counted through its own partial index, so jobs that ended more than a day ago are never read.
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
