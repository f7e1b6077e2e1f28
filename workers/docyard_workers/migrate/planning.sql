-- name: one_at_a_time
-- Whoever plans second sees what the first has committed.
SELECT pg_advisory_xact_lock(hashtext('docyard plans a reembed'));

-- name: under_way
-- The newest reembed that has not come to its end: its ranges still run, or its last job waits or runs.
SELECT batch.id, batch.callback #>> '{payload,model}' AS model, batch.paused
FROM docyard.batches AS batch
LEFT JOIN docyard.procrastinate_jobs AS job ON job.id = batch.callback_job_id
WHERE batch.callback ->> 'kind' = 'reembed' AND batch.cancelled_at IS NULL
    AND (batch.finished_at IS NULL OR job.status IN ('todo', 'doing'))
ORDER BY batch.created_at DESC, batch.id DESC
LIMIT 1;

-- name: standing
-- How far a reembed is, counted in chunks: a job's weight is how many it was planned for. The batch's callback is not
-- one of its jobs.
SELECT batch.callback #>> '{payload,model}' AS model, batch.paused, batch.cancelled_at IS NOT NULL AS cancelled,
    batch.finished_at IS NOT NULL AS ranges_ended,
    CASE WHEN queue.paused THEN coalesce(queue.paused_reason, 'no reason was given') END AS queue_stopped,
    counted.chunks, counted.done, counted.dead,
    last.id AS last_job_id, last.status::text AS last_status, last.result, last.progress,
    last.error_code, last.error_message
FROM docyard.batches AS batch
LEFT JOIN docyard.procrastinate_jobs AS last ON last.id = batch.callback_job_id
LEFT JOIN docyard.queues AS queue ON queue.name = 'migrate'
CROSS JOIN LATERAL (
    SELECT coalesce(sum(job.weight), 0)::bigint AS chunks,
        coalesce(sum(job.weight) FILTER (WHERE job.status NOT IN ('todo', 'doing')), 0)::bigint AS done,
        coalesce(sum(job.weight) FILTER (WHERE job.status = 'failed'), 0)::bigint AS dead
    FROM docyard.procrastinate_jobs AS job
    WHERE job.batch_id = batch.id AND (job.args ->> 'last')::bigint > 0
) AS counted
WHERE batch.id = %(batch)s;

-- name: unfinished
-- Jobs that still bring vectors of a model: of documents that came meanwhile, or ranges that a person retried.
SELECT count(*) FROM docyard.procrastinate_jobs AS job
WHERE job.status IN ('todo', 'doing') AND job.task_name = 'backfill' AND job.args ->> 'model' = %(model)s;

-- name: dead_ranges
SELECT job.id, (job.args ->> 'first')::bigint, (job.args ->> 'last')::bigint, job.error_code, job.error_message
FROM docyard.procrastinate_jobs AS job
WHERE job.batch_id = %(batch)s AND job.status = 'failed' AND job.task_name = 'backfill'
ORDER BY job.id
LIMIT %(limit)s::integer;

-- name: last_progress
SELECT job.progress FROM docyard.procrastinate_jobs AS job WHERE job.id = %(job)s;
