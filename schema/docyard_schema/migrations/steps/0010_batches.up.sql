-- Batches that a person can pause and cancel, and that enqueue a job of their own when all of theirs have ended.

ALTER TABLE docyard.batches
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN cancelled_at timestamptz,
    -- The job to enqueue at the end, as docyard_queue.batch_callbacks writes it. NULL: none.
    ADD COLUMN callback jsonb,
    ADD COLUMN callback_job_id bigint,
    -- Set once, in the transaction that enqueues the callback; NULL for ever where there is none. Nothing is
    -- counted here while jobs end: a counter would be a row that every finish waits for.
    ADD COLUMN finished_at timestamptz;

CREATE INDEX batches_paused_idx ON docyard.batches (id) WHERE paused;
CREATE INDEX batches_cancelled_idx ON docyard.batches (cancelled_at) WHERE cancelled_at IS NOT NULL;
CREATE INDEX batches_open_idx ON docyard.batches (id) WHERE callback IS NOT NULL AND finished_at IS NULL;

CREATE OR REPLACE VIEW docyard.batch_progress AS
SELECT batch.id AS batch_id,
    CASE
        WHEN batch.cancelled_at IS NOT NULL AND counted.waiting = 0 THEN 'cancelled'
        WHEN counted.waiting + counted.running = 0 THEN 'finished'
        WHEN batch.paused THEN 'paused'
        ELSE 'running'
    END AS state,
    counted.total, counted.waiting, counted.running, counted.completed, counted.dead, counted.cancelled,
    counted.rate,
    CASE WHEN counted.rate > 0
        THEN make_interval(secs => (counted.waiting + counted.running) / counted.rate) END AS eta,
    batch.label,
    batch.created_at,
    batch.callback_job_id
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
