-- name: create_batch
INSERT INTO docyard.batches (id, label, callback) VALUES (%(id)s, %(label)s, %(callback)s::jsonb);

-- name: progress
SELECT batch_id, label, state, total, waiting, running, completed, dead, cancelled,
    rate::double precision AS rate, eta, created_at, callback_job_id
FROM docyard.batch_progress WHERE batch_id = %(id)s;

-- name: list_batches
-- The newest first; only these are counted.
SELECT progress.batch_id, progress.label, progress.state, progress.total, progress.waiting, progress.running,
    progress.completed, progress.dead, progress.cancelled, progress.rate::double precision AS rate,
    progress.eta, progress.created_at, progress.callback_job_id
FROM (
    SELECT id, created_at FROM docyard.batches ORDER BY created_at DESC, id DESC LIMIT %(limit)s
) AS newest
JOIN docyard.batch_progress AS progress ON progress.batch_id = newest.id
ORDER BY newest.created_at DESC, newest.id DESC;

-- name: set_paused
UPDATE docyard.batches SET paused = %(paused)s WHERE id = %(id)s RETURNING id;

-- name: wake
-- Nobody is told of jobs that may be claimed again; they should not wait for the next poll. A full NOTIFY queue would
-- fail the commit, and polling finds the jobs as well.
SELECT pg_notify('procrastinate_any_queue_v1',
    json_build_object('type', 'job_inserted', 'job_id', min(job.id))::text)
FROM docyard.procrastinate_jobs AS job
WHERE job.batch_id = %(id)s AND job.status = 'todo'
HAVING min(job.id) IS NOT NULL AND pg_notification_queue_usage() <= 0.5;

-- name: begin_cancel
-- A batch that has ended has nothing to cancel and stays as it is.
UPDATE docyard.batches AS batch SET cancelled_at = docyard.clock()
WHERE batch.id = %(id)s AND EXISTS (
    SELECT FROM docyard.procrastinate_jobs AS job
    WHERE job.batch_id = batch.id AND job.status IN ('todo', 'doing')
)
RETURNING batch.id;

-- name: cancel_some
-- Waiting jobs end here; running ones are asked to end, and their workers told by a notification. Bounded, so
-- that no lock is held for long; in the order of the ids, as every statement that locks several jobs.
UPDATE docyard.procrastinate_jobs AS job
SET status = CASE job.status WHEN 'todo' THEN 'cancelled' ELSE job.status END,
    abort_requested = job.status = 'doing',
    finished_at = CASE job.status WHEN 'todo' THEN docyard.clock() END
WHERE job.id = ANY (ARRAY (
    SELECT chosen.id FROM docyard.procrastinate_jobs AS chosen
    WHERE chosen.batch_id = %(id)s
        AND (chosen.status = 'todo' OR chosen.status = 'doing' AND NOT chosen.abort_requested)
    ORDER BY chosen.id
    LIMIT 1000
    FOR UPDATE
))
RETURNING job.status = 'doing' AS running;

-- name: cancel_late
-- A running job that is not told in time may add jobs to a batch that was cancelled: they end as well.
UPDATE docyard.procrastinate_jobs AS job SET status = 'cancelled', finished_at = docyard.clock()
WHERE job.id = ANY (ARRAY (
    SELECT late.id FROM docyard.batches AS batch
    JOIN docyard.procrastinate_jobs AS late ON late.batch_id = batch.id AND late.status = 'todo'
    WHERE batch.cancelled_at > docyard.clock() - interval '1 day'
    ORDER BY late.id
    LIMIT 1000
    FOR UPDATE OF late SKIP LOCKED
));

-- name: close_one
-- Claims the callback of one batch whose jobs have all ended, for this transaction alone: whoever comes second
-- passes over the locked row, and after the commit does not find it open. Whoever finishes the last job looks after
-- its own commit, so the last of them sees all the others. An empty batch has not begun.
UPDATE docyard.batches AS batch SET finished_at = docyard.clock()
WHERE batch.id = ANY (ARRAY (
    SELECT ended.id FROM docyard.batches AS ended
    WHERE ended.callback IS NOT NULL AND ended.finished_at IS NULL
        AND (%(ids)s::uuid[] IS NULL OR ended.id = ANY (%(ids)s::uuid[]))
        AND EXISTS (SELECT FROM docyard.procrastinate_jobs AS job WHERE job.batch_id = ended.id)
        AND NOT EXISTS (
            SELECT FROM docyard.procrastinate_jobs AS job
            WHERE job.batch_id = ended.id AND job.status IN ('todo', 'doing')
        )
    ORDER BY ended.id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
))
RETURNING batch.id, batch.callback;

-- name: link_callback
UPDATE docyard.batches SET callback_job_id = %(job)s WHERE id = %(id)s;
