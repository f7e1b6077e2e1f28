-- name: facts
-- Everything in one statement, so that the facts are of one moment. "ahead" is the claim's own condition on lock
-- keys: what stands before this job and is due, or began and keeps its place.
SELECT job.id, docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
    job.task_name AS kind, job.queue_name AS queue, job.scheduled_at AS run_at,
    job.attempts, job.max_attempts, job.lease > 0 AS began, job.abort_requested AS cancelling, job.lock AS lock_key,
    job.started_at, job.finished_at, job.error_code, job.error_message,
    coalesce(queue.paused, false) AS paused, queue.paused_reason, job.batch_id,
    coalesce(batch.paused, false) AS batch_paused,
    ahead.jobs AS ahead, ahead.first_id AS holder, ahead.running AS holder_runs, ahead.worker_id AS holder_worker,
    job.worker_id, coalesce((
        SELECT worker.last_heartbeat
            >= docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10))
        FROM docyard.procrastinate_workers AS worker WHERE worker.id = job.worker_id
    ), false) AS worker_lives,
    alive.workers, alive.serving, alive.able
FROM docyard.procrastinate_jobs AS job
LEFT JOIN docyard.queues AS queue ON queue.name = job.queue_name
LEFT JOIN docyard.batches AS batch ON batch.id = job.batch_id
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs,
        (array_agg(other.id ORDER BY other.status = 'doing' DESC, other.priority DESC, other.id))[1] AS first_id,
        coalesce(bool_or(other.status = 'doing'), false) AS running,
        max(other.worker_id) FILTER (WHERE other.status = 'doing') AS worker_id
    FROM docyard.procrastinate_jobs AS other
    WHERE job.status = 'todo' AND other.lock = job.lock AND other.id <> job.id AND (
        other.status = 'doing'
        OR other.status = 'todo'
            AND (other.priority > job.priority OR other.priority = job.priority AND other.id < job.id)
            AND (other.scheduled_at IS NULL OR other.scheduled_at <= docyard.clock() OR other.lease > 0)
    )
) AS ahead
CROSS JOIN LATERAL (
    SELECT count(*) AS workers,
        count(*) FILTER (WHERE worker.serves) AS serving,
        count(*) FILTER (WHERE worker.serves AND worker.knows) AS able
    FROM (
        SELECT candidate.queues IS NULL OR job.queue_name = ANY (candidate.queues) AS serves,
            -- A worker that did not say what it knows may know this kind.
            candidate.kinds IS NULL OR job.task_name = ANY (candidate.kinds) AS knows
        FROM docyard.procrastinate_workers AS candidate
        WHERE candidate.state = 'running' AND candidate.last_heartbeat
            >= docyard.clock() - make_interval(secs => 3 * coalesce(candidate.heartbeat_seconds, 10))
    ) AS worker
) AS alive
WHERE job.id = %(id)s;
