-- What views need beside the jobs themselves to answer in 100 ms over millions of them (docs/design/views.md).

-- One row per minute, queue and kind in which something happened, written by a worker when the minute has ended.
CREATE TABLE docyard.job_minutes (
    minute timestamptz NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    enqueued bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    wait_p50_ms double precision,
    wait_p95_ms double precision,
    wait_p99_ms double precision,
    run_p50_ms double precision,
    run_p95_ms double precision,
    run_p99_ms double precision,
    PRIMARY KEY (minute, queue, kind)
);

-- How far they are counted: one row, and whoever has its lock counts.
CREATE TABLE docyard.job_minutes_progress (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- All minutes before this one are written. NULL: none is.
    until timestamptz,
    -- Jobs that were enqueued since then have this number or a larger one.
    first_job_id bigint NOT NULL
);
INSERT INTO docyard.job_minutes_progress (first_job_id) VALUES (0);

-- Jobs that failed before or were put off, to tell them from those that never ran: of all that wait the few that this
-- holds pay for it.
CREATE INDEX jobs_retryable_idx ON docyard.procrastinate_jobs (queue_name, scheduled_at)
    WHERE status = 'todo' AND attempts > 0;

CREATE VIEW docyard.job_latency AS
SELECT counted.queue, counted.kind, counted.minute, counted.completed AS count,
    counted.wait_p50_ms, counted.wait_p95_ms, counted.wait_p99_ms,
    counted.run_p50_ms, counted.run_p95_ms, counted.run_p99_ms
FROM docyard.job_minutes AS counted
WHERE counted.completed > 0;

CREATE VIEW docyard.throughput AS
SELECT counted.minute, counted.queue, counted.kind, counted.enqueued, counted.completed, counted.failed
FROM docyard.job_minutes AS counted;

-- A key that outlasts the wait is in unique_keys. It is looked up for rows that are shown, and only by whoever
-- asks for the column.
CREATE OR REPLACE VIEW docyard.jobs AS
SELECT job.id,
    job.task_name AS kind,
    job.queue_name AS queue,
    docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
    job.priority,
    job.attempts,
    job.max_attempts,
    job.lock AS lock_key,
    coalesce(job.queueing_lock,
        (SELECT held.key FROM docyard.unique_keys AS held WHERE held.job_id = job.id)) AS unique_key,
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

CREATE OR REPLACE VIEW docyard.workers AS
SELECT worker.id, worker.host, worker.pid, worker.queues,
    (SELECT count(*) FROM docyard.procrastinate_jobs AS job
     WHERE job.worker_id = worker.id AND job.status = 'doing') AS running,
    worker.started_at,
    worker.last_heartbeat AS heartbeat_at,
    CASE WHEN worker.last_heartbeat
            < docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10))
        THEN 'lost' ELSE worker.state END AS state,
    worker.kinds
FROM docyard.procrastinate_workers AS worker;

-- What waits is counted through the indexes that the claim goes by, queue by queue: Postgres reads an index only where
-- the condition and the columns are the index's. In one count with conditions it would read a million jobs.
CREATE OR REPLACE VIEW docyard.queue_stats AS
WITH RECURSIVE moment AS MATERIALIZED (
    SELECT docyard.clock() AS at
), ready (queue, priority, id) AS (
    -- The first of each queue and priority, from one to the next.
    (SELECT job.queue_name, job.priority, job.id FROM docyard.procrastinate_jobs AS job
     WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL
             AND job.parked IS NULL
     ORDER BY job.queue_name, job.priority DESC, job.id LIMIT 1)
    UNION ALL
    SELECT next.queue_name, next.priority, next.id FROM ready CROSS JOIN LATERAL (
        (SELECT job.queue_name, job.priority, job.id FROM docyard.procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL
             AND job.parked IS NULL
             AND job.queue_name = ready.queue AND job.priority < ready.priority
         ORDER BY job.priority DESC, job.id LIMIT 1)
        UNION ALL
        (SELECT job.queue_name, job.priority, job.id FROM docyard.procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL
             AND job.parked IS NULL
             AND job.queue_name > ready.queue
         ORDER BY job.queue_name, job.priority DESC, job.id LIMIT 1)
        LIMIT 1
    ) AS next
), due (queue) AS (
    (SELECT job.queue_name FROM docyard.procrastinate_jobs AS job
     WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
     ORDER BY job.queue_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name FROM due CROSS JOIN LATERAL (
        SELECT job.queue_name FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
            AND job.queue_name > due.queue
        ORDER BY job.queue_name LIMIT 1
    ) AS next
)
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
        sum(part.future - part.retryable)::bigint AS scheduled,
        sum(part.available)::bigint AS available,
        sum(part.running)::bigint AS running,
        sum(part.retryable)::bigint AS retryable,
        sum(part.dead)::bigint AS dead,
        sum(part.completed)::bigint AS completed_24h,
        extract(epoch FROM (SELECT moment.at FROM moment) - min(part.since)) AS oldest_available_s
    FROM (
        SELECT head.queue AS queue,
            (SELECT count(*) FROM docyard.procrastinate_jobs AS job
             WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL
             AND job.parked IS NULL
                 AND job.queue_name = head.queue) AS available,
            0::bigint AS future, 0::bigint AS retryable, 0::bigint AS running, 0::bigint AS dead,
            0::bigint AS completed, head.since AS since
        FROM (
            SELECT ready.queue, min((
                SELECT job.created_at FROM docyard.procrastinate_jobs AS job WHERE job.id = ready.id
            )) AS since
            FROM ready GROUP BY ready.queue
        ) AS head
        -- Every branch names its columns: else a dump writes names of Postgres's own, and the restored view
        -- would look like drift.
        UNION ALL
        SELECT due.queue AS queue, now.available AS available, waiting.jobs - now.available AS future,
            0::bigint AS retryable, 0::bigint AS running, 0::bigint AS dead, 0::bigint AS completed,
            now.since AS since
        FROM due
        CROSS JOIN LATERAL (
            SELECT count(*) AS jobs FROM docyard.procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
                AND job.queue_name = due.queue
        ) AS waiting
        CROSS JOIN LATERAL (
            SELECT count(*) AS available, min(job.scheduled_at) AS since
            FROM docyard.procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
                AND job.queue_name = due.queue AND job.scheduled_at <= (SELECT moment.at FROM moment)
        ) AS now
        UNION ALL
        -- Far behind in the line of a lock key; few, and read.
        SELECT job.queue_name AS queue, count(*) AS available, 0::bigint AS future, 0::bigint AS retryable,
            0::bigint AS running, 0::bigint AS dead, 0::bigint AS completed, min(job.created_at) AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL AND job.parked
        GROUP BY job.queue_name
        UNION ALL
        -- Jobs with a partition key are read: their index does not hold the time as a column.
        SELECT job.queue_name AS queue,
            count(*) FILTER (WHERE job.scheduled_at IS NULL OR job.scheduled_at <= (SELECT moment.at FROM moment))
                AS available,
            count(*) FILTER (WHERE job.scheduled_at > (SELECT moment.at FROM moment)) AS future,
            0::bigint AS retryable, 0::bigint AS running, 0::bigint AS dead, 0::bigint AS completed,
            min(coalesce(job.scheduled_at, job.created_at)) FILTER (
                WHERE job.scheduled_at IS NULL OR job.scheduled_at <= (SELECT moment.at FROM moment)) AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.partition_key IS NOT NULL
        GROUP BY job.queue_name
        UNION ALL
        SELECT job.queue_name AS queue, 0::bigint AS available, 0::bigint AS future, count(*) AS retryable,
            0::bigint AS running, 0::bigint AS dead, 0::bigint AS completed, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        -- The second bound excludes nothing. With one that it does not know Postgres expects a third of all rows, with two
        -- a two-hundredth, and then starts no parallel workers for a handful.
        WHERE job.status = 'todo' AND job.attempts > 0 AND job.scheduled_at > (SELECT moment.at FROM moment)
            AND job.scheduled_at <= 'infinity'
        GROUP BY job.queue_name
        UNION ALL
        -- Whoever claims writes its number down; the index of running jobs holds those that have one.
        SELECT job.queue_name AS queue, 0::bigint AS available, 0::bigint AS future, 0::bigint AS retryable,
            count(*) AS running, 0::bigint AS dead, 0::bigint AS completed, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'doing' AND job.worker_id IS NOT NULL
        GROUP BY job.queue_name
        UNION ALL
        SELECT job.queue_name AS queue, 0::bigint AS available, 0::bigint AS future, 0::bigint AS retryable,
            0::bigint AS running, count(*) AS dead, 0::bigint AS completed, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'failed'
        GROUP BY job.queue_name
        UNION ALL
        -- Minutes that are counted, and what came since.
        SELECT counted.queue::varchar AS queue, 0::bigint AS available, 0::bigint AS future,
            0::bigint AS retryable, 0::bigint AS running, 0::bigint AS dead,
            sum(counted.completed)::bigint AS completed, NULL::timestamptz AS since
        FROM docyard.job_minutes AS counted
        WHERE counted.minute >= (SELECT moment.at FROM moment) - interval '24 hours' AND counted.completed > 0
        GROUP BY counted.queue
        UNION ALL
        SELECT job.queue_name AS queue, 0::bigint AS available, 0::bigint AS future, 0::bigint AS retryable,
            0::bigint AS running, 0::bigint AS dead, count(*) AS completed, NULL::timestamptz AS since
        FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'succeeded' AND job.finished_at >= (
            SELECT greatest(progress.until, (SELECT moment.at FROM moment) - interval '24 hours')
            FROM docyard.job_minutes_progress AS progress
        )
        GROUP BY job.queue_name
    ) AS part
    GROUP BY part.queue
) AS counted
FULL JOIN docyard.queues AS queue ON queue.name = counted.queue;
