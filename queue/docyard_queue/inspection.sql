-- name: list_jobs
SELECT id, kind, queue, state, priority, attempts, max_attempts, lock_key, unique_key, batch_id, worker_id,
    created_at, run_at, started_at, finished_at, error_code, error_message
FROM docyard.jobs
WHERE (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(batch)s::uuid IS NULL OR batch_id = %(batch)s)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: show_job
SELECT id, kind, queue, state, priority, attempts, max_attempts, lock_key, unique_key, batch_id, worker_id,
    created_at, run_at, started_at, finished_at, error_code, error_message
FROM docyard.jobs WHERE id = %(id)s;

-- name: payload_and_result
SELECT args, result, progress FROM docyard.procrastinate_jobs WHERE id = %(id)s;

-- name: list_attempts
SELECT shown.attempt, shown.lease, shown.worker_id, shown.started_at, shown.finished_at, shown.outcome,
    shown.error_class, shown.error_message, told.traceback
FROM docyard.attempts AS shown
LEFT JOIN docyard.job_attempts AS told ON told.job_id = shown.job_id AND told.lease = shown.lease
WHERE shown.job_id = %(id)s
ORDER BY shown.lease;

-- name: retry
-- A dead or cancelled job begins anew, with all its attempts; a waiting one that was put off runs at once.
-- Of several with one unique key the first keeps it.
WITH chosen AS (
    SELECT job.id, job.queueing_lock FROM docyard.procrastinate_jobs AS job
    WHERE job.id = ANY (%(ids)s::bigint[]) AND job.status IN ('failed', 'cancelled', 'aborted', 'todo')
    ORDER BY job.id FOR UPDATE
), placed AS (
    SELECT chosen.*, row_number() OVER (PARTITION BY queueing_lock ORDER BY id) AS place FROM chosen
)
UPDATE docyard.procrastinate_jobs AS job
SET status = 'todo', attempts = 0, abort_requested = false, worker_id = NULL, finished_at = NULL,
    -- The wait is counted from now on.
    scheduled_at = docyard.clock(),
    error_code = NULL, error_message = NULL,
    -- Whoever wants it to run again takes it for innocent.
    alone = false, began_alone = NULL,
    queueing_lock = CASE WHEN job.status <> 'todo' AND (%(give_up_keys)s OR placed.place > 1 OR EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS sibling
        WHERE sibling.queueing_lock = placed.queueing_lock AND sibling.status = 'todo'
    )) THEN NULL ELSE job.queueing_lock END
FROM placed WHERE job.id = placed.id
RETURNING job.id;

-- name: revive_batches
-- A job of a cancelled batch that a person wants to run: what is left of the batch may run again.
UPDATE docyard.batches SET cancelled_at = NULL
WHERE cancelled_at IS NOT NULL AND id IN (
    SELECT job.batch_id FROM docyard.procrastinate_jobs AS job WHERE job.id = ANY (%(ids)s::bigint[])
);

-- name: wake
-- An UPDATE says nothing to listeners; a job that is to run now should not wait for the next poll. A full NOTIFY
-- queue would fail the commit, and polling finds the job as well.
SELECT pg_notify('procrastinate_any_queue_v1',
    json_build_object('type', 'job_inserted', 'job_id', %(id)s::bigint)::text)
WHERE pg_notification_queue_usage() <= 0.5;

-- name: cancel
-- Waiting jobs end here; running ones are asked to end, and their workers told by a notification.
UPDATE docyard.procrastinate_jobs AS job
SET status = CASE job.status WHEN 'todo' THEN 'cancelled' ELSE job.status END,
    abort_requested = job.status = 'doing',
    finished_at = CASE job.status WHEN 'todo' THEN docyard.clock() END
WHERE job.id = ANY (ARRAY (
    SELECT chosen.id FROM docyard.procrastinate_jobs AS chosen
    WHERE chosen.id = ANY (%(ids)s::bigint[]) AND chosen.status IN ('todo', 'doing')
    ORDER BY chosen.id FOR UPDATE
))
RETURNING job.id, job.status = 'doing' AS running;

-- name: queue_stats
SELECT queue, paused, scheduled, available, running, retryable, dead, completed_24h,
    oldest_available_s::double precision AS oldest_available_s
FROM docyard.queue_stats ORDER BY queue;

-- name: list_workers
SELECT id, host, pid, queues, running, started_at, heartbeat_at, state FROM docyard.workers ORDER BY id;

-- name: count_unfinished
-- What a drain still has to wait for. A job scheduled for later that never began is not waited for; one that
-- was snoozed is.
SELECT count(*) FROM docyard.procrastinate_jobs
WHERE task_name = ANY (%(kinds)s::text[])
    AND (%(queues)s::text[] IS NULL OR queue_name = ANY (%(queues)s::text[]))
    AND (status = 'doing' OR status = 'todo'
        AND (lease > 0 OR scheduled_at IS NULL OR scheduled_at <= docyard.clock())
        AND queue_name <> ALL (ARRAY (SELECT name FROM docyard.queues WHERE paused))
        AND (batch_id IS NULL OR batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused))));
