-- name: take
-- Which minutes are to be counted. Nobody waits: one worker counts, the others pass over the locked row. Thirty
-- seconds after a minute's end all but long transactions that wrote into it have committed.
SELECT greatest(progress.until, due.until - interval '24 hours') AS since, due.until, progress.first_job_id
FROM docyard.job_minutes_progress AS progress
CROSS JOIN (
    SELECT date_trunc('minute', docyard.clock() - interval '30 seconds', 'UTC') AS until
) AS due
WHERE progress.until IS NULL OR progress.until < due.until
FOR UPDATE OF progress SKIP LOCKED;

-- name: allow_time
-- The first count after an upgrade reads a day of jobs; the pool's limit is for statements that somebody waits for.
SELECT set_config('statement_timeout', '600000', true);

-- name: count_jobs
-- Three ranges of three indexes, each read once. Enqueued jobs have no index by time: they are those with larger
-- numbers, and a number is not older than its transaction's start.
INSERT INTO docyard.job_minutes
    (minute, queue, kind, enqueued, completed, failed, wait_p50_ms, wait_p95_ms, wait_p99_ms, run_p50_ms, run_p95_ms,
        run_p99_ms)
SELECT part.minute, part.queue, part.kind, sum(part.enqueued), sum(part.completed), sum(part.failed),
    max(part.wait[1]), max(part.wait[2]), max(part.wait[3]), max(part.run[1]), max(part.run[2]), max(part.run[3])
FROM (
    SELECT date_trunc('minute', job.created_at, 'UTC') AS minute, job.queue_name AS queue, job.task_name AS kind,
        count(*) AS enqueued, 0 AS completed, 0 AS failed,
        NULL::double precision[] AS wait, NULL::double precision[] AS run
    FROM docyard.procrastinate_jobs AS job
    WHERE job.id >= %(first_job_id)s AND job.created_at >= %(since)s AND job.created_at < %(until)s
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT date_trunc('minute', job.finished_at, 'UTC'), job.queue_name, job.task_name, 0, count(*), 0,
        -- date_part and not extract: that gives a numeric, which takes three times as long.
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY greatest(0,
            1000 * date_part('epoch', job.started_at - coalesce(job.scheduled_at, job.created_at)))),
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY greatest(0,
            1000 * date_part('epoch', job.finished_at - job.started_at)))
    FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'succeeded' AND job.finished_at >= %(since)s AND job.finished_at < %(until)s
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT date_trunc('minute', job.finished_at, 'UTC'), job.queue_name, job.task_name, 0, 0, count(*), NULL, NULL
    FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'failed' AND job.finished_at >= %(since)s AND job.finished_at < %(until)s
    GROUP BY 1, 2, 3
) AS part
GROUP BY part.minute, part.queue, part.kind;

-- name: advance
-- A job that will be enqueued in the next minute has a larger number than all whose transactions began a minute
-- before it. Where there is none as young as that: larger than all there are.
UPDATE docyard.job_minutes_progress SET until = %(until)s, first_job_id = coalesce(
    (SELECT job.id FROM docyard.procrastinate_jobs AS job
     WHERE job.id >= %(first_job_id)s AND job.created_at >= %(until)s::timestamptz - interval '1 minute'
     ORDER BY job.id LIMIT 1),
    (SELECT max(job.id) + 1 FROM docyard.procrastinate_jobs AS job),
    first_job_id
);

-- name: forget
-- Views tell the last day; a minute more for who reads while this is written.
DELETE FROM docyard.job_minutes WHERE minute < %(until)s::timestamptz - interval '24 hours 1 minute';
