DROP VIEW docyard.batch_progress;

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

DROP INDEX docyard.batches_paused_idx, docyard.batches_cancelled_idx, docyard.batches_open_idx;
ALTER TABLE docyard.batches
    DROP COLUMN paused, DROP COLUMN cancelled_at, DROP COLUMN callback, DROP COLUMN callback_job_id,
    DROP COLUMN finished_at;
