-- name: facts
-- Everything in one statement, so that the facts are of one moment. "ahead" is the claim's own condition on lock
-- keys: what stands before this job and is due, or began and keeps its place.
SELECT job.id, docyard.job_state(job.status, job.attempts, job.scheduled_at) AS state,
    job.task_name AS kind, job.queue_name AS queue, job.scheduled_at AS run_at,
    job.attempts, job.max_attempts, job.lease > 0 AS began, job.abort_requested AS cancelling, job.lock AS lock_key,
    job.started_at, job.finished_at, job.error_code, job.error_message,
    (SELECT latest.error_message FROM docyard.attempts AS latest
     WHERE latest.job_id = job.id AND latest.lease = job.lease AND latest.outcome = 'snoozed') AS snoozed_because,
    coalesce(queue.paused, false) AS paused, queue.paused_reason, job.batch_id,
    coalesce(batch.paused, false) AS batch_paused,
    ahead.jobs AS ahead, ahead.first_id AS holder, ahead.running AS holder_runs, ahead.worker_id AS holder_worker,
    job.worker_id, coalesce((
        SELECT worker.last_heartbeat
            >= docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10))
        FROM docyard.procrastinate_workers AS worker WHERE worker.id = job.worker_id
    ), false) AS worker_lives,
    alive.workers, alive.serving, alive.able,
    job.partition_key, coalesce(job.weight, 1) AS weight, queue.concurrency, queue.key_concurrency,
    counted.jobs AS counted, counted.of_key AS counted_of_key, counted.first_id AS counted_first,
    extract(epoch FROM make_interval(secs => queue.rate_seconds / queue.rate * (
        least(coalesce(job.weight, 1), queue.rate) - docyard.budget_left(
            budget.balance, budget.balanced_at, queue.rate, queue.rate_seconds))))::double precision
        AS rate_wait_s,
    extract(epoch FROM make_interval(secs => queue.key_rate_seconds / queue.key_rate * (
        least(coalesce(job.weight, 1), queue.key_rate) - docyard.budget_left(
            key_budget.balance, key_budget.balanced_at, queue.key_rate, queue.key_rate_seconds))))::double precision
        AS key_rate_wait_s,
    docyard.clock() AS now, pause.until AS cool_until, pause.reason AS cool_reason
FROM docyard.procrastinate_jobs AS job
LEFT JOIN docyard.queues AS queue ON queue.name = job.queue_name
LEFT JOIN docyard.batches AS batch ON batch.id = job.batch_id
LEFT JOIN docyard.budgets AS budget
    ON budget.name = docyard.limit_name(job.queue_name, NULL) AND budget.unit = 'weight'
LEFT JOIN docyard.budgets AS key_budget
    ON key_budget.name = docyard.limit_name(job.queue_name, job.partition_key) AND key_budget.unit = 'weight'
    AND job.partition_key IS NOT NULL
LEFT JOIN LATERAL (
    SELECT cooling.until, cooling.reason FROM docyard.cool_downs AS cooling
    WHERE cooling.name IN (docyard.limit_name(job.queue_name, NULL),
            docyard.limit_name(job.queue_name, job.partition_key))
        AND cooling.until > docyard.clock()
    ORDER BY cooling.until DESC LIMIT 1
) AS pause ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, count(*) FILTER (WHERE other.partition_key = job.partition_key) AS of_key,
        min(other.id) AS first_id
    FROM docyard.procrastinate_jobs AS other
    WHERE job.status = 'todo' AND other.status = 'doing' AND other.counted
        AND other.queue_name = job.queue_name
) AS counted
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
