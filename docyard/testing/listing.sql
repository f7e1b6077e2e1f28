-- name: list_jobs
-- All of a database's jobs that fit; a test has few. A key that outlasts the wait is kept beside the job.
SELECT job.id, job.task_name AS kind, job.queue_name AS queue,
    docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
    job.args AS payload, job.priority, coalesce(job.scheduled_at, job.created_at) AS run_at, job.attempts,
    job.max_attempts, job.lock AS lock_key,
    coalesce(job.queueing_lock, (
        SELECT held.key FROM docyard.unique_keys AS held WHERE held.job_id = job.id
    )) AS unique_key,
    job.partition_key, job.batch_id, job.created_at
FROM docyard.procrastinate_jobs AS job
WHERE %(kind)s::text IS NULL OR job.task_name = %(kind)s
ORDER BY job.id;
