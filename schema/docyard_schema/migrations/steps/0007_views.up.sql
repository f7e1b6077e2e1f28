-- The contract with dashboards: documented column by column in docs/views.md, and stable.

CREATE VIEW docyard.jobs AS
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

CREATE VIEW docyard.attempts AS
SELECT attempt.job_id, attempt.lease, attempt.attempt, attempt.worker_id, attempt.started_at,
    attempt.finished_at, attempt.outcome, attempt.error_class, attempt.error_message
FROM docyard.job_attempts AS attempt
UNION ALL
SELECT job.id, job.lease, job.attempts, job.worker_id, job.started_at, job.finished_at,
    CASE job.status WHEN 'doing' THEN 'running' ELSE 'completed' END, NULL, NULL
FROM docyard.procrastinate_jobs AS job
WHERE job.status IN ('doing', 'succeeded') AND job.lease > 0
    AND NOT EXISTS (
        SELECT FROM docyard.job_attempts AS told WHERE told.job_id = job.id AND told.lease = job.lease
    );

CREATE VIEW docyard.dead_letters AS
SELECT job.id AS job_id, job.task_name AS kind, job.queue_name AS queue, job.attempts, job.finished_at,
    job.error_code, job.error_message
FROM docyard.procrastinate_jobs AS job
WHERE job.status = 'failed';

CREATE VIEW docyard.queue_stats AS
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
    SELECT job.queue AS queue,
        count(*) FILTER (WHERE job.state = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE job.state = 'available') AS available,
        count(*) FILTER (WHERE job.state = 'running') AS running,
        count(*) FILTER (WHERE job.state = 'retryable') AS retryable,
        count(*) FILTER (WHERE job.state = 'dead') AS dead,
        count(*) FILTER (
            WHERE job.state = 'completed' AND job.finished_at > docyard.clock() - interval '24 hours'
        ) AS completed_24h,
        extract(epoch FROM docyard.clock() - min(job.run_at) FILTER (WHERE job.state = 'available'))
            AS oldest_available_s
    FROM docyard.jobs AS job
    GROUP BY job.queue
) AS counted
FULL JOIN docyard.queues AS queue ON queue.name = counted.queue;

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

CREATE VIEW docyard.batch_progress AS
SELECT batch.id AS batch_id,
    CASE WHEN counted.waiting + counted.running = 0 THEN 'finished' ELSE 'running' END AS state,
    counted.total, counted.waiting, counted.running, counted.completed, counted.dead, counted.cancelled,
    counted.rate,
    CASE WHEN counted.rate > 0
        THEN make_interval(secs => (counted.waiting + counted.running) / counted.rate) END AS eta
FROM docyard.batches AS batch
CROSS JOIN LATERAL (
    SELECT count(*) AS total,
        count(*) FILTER (WHERE job.status = 'todo') AS waiting,
        count(*) FILTER (WHERE job.status = 'doing') AS running,
        count(*) FILTER (WHERE job.status = 'succeeded') AS completed,
        count(*) FILTER (WHERE job.status = 'failed') AS dead,
        count(*) FILTER (WHERE job.status IN ('cancelled', 'aborted', 'aborting')) AS cancelled,
        count(job.finished_at) / nullif(extract(epoch FROM max(job.finished_at) - min(job.started_at)), 0)
            AS rate
    FROM docyard.procrastinate_jobs AS job
    WHERE job.batch_id = batch.id
) AS counted;

CREATE VIEW docyard.embedding_coverage AS
SELECT model.name AS model,
    model.state,
    document.kind,
    count(*) AS chunks,
    count(*) FILTER (WHERE vector.content_hash = chunk.content_hash) AS embedded,
    count(*) FILTER (
        WHERE vector.content_hash IS DISTINCT FROM chunk.content_hash
            AND failure.content_hash IS DISTINCT FROM chunk.content_hash
    ) AS missing,
    count(*) FILTER (
        WHERE vector.content_hash IS DISTINCT FROM chunk.content_hash
            AND failure.content_hash = chunk.content_hash
    ) AS failed
FROM docyard.embedding_models AS model
CROSS JOIN docyard.chunks AS chunk
JOIN docyard.documents AS document ON document.id = chunk.document_id AND document.deleted_at IS NULL
LEFT JOIN docyard.embeddings AS vector ON vector.model_id = model.id AND vector.chunk_id = chunk.id
LEFT JOIN docyard.embedding_failures AS failure
    ON failure.model_id = model.id AND failure.chunk_id = chunk.id
GROUP BY model.name, model.state, document.kind;
