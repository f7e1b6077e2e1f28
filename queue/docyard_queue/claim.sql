-- name: claim
-- Takes up to %(slots)s runnable jobs, most urgent first, counts their attempt and bumps their lease.
-- The ids come as an array: joined as a row set the planner reads and sorts the whole backlog instead of
-- walking the (priority, id) index until it has enough. "lock IS NULL OR" stands first for the same reason.
UPDATE docyard.procrastinate_jobs AS job
SET status = 'doing',
    attempts = job.attempts + 1,
    lease = job.lease + 1,
    worker_id = %(worker)s,
    started_at = docyard.clock(),
    finished_at = NULL,
    -- A procrastinate producer names no limit: the handler's is written down, for whoever rescues the job.
    max_attempts = coalesce(job.max_attempts, (
        SELECT known.max_attempts
        FROM unnest(%(kinds)s::text[], %(limits)s::integer[]) AS known (kind, max_attempts)
        WHERE known.kind = job.task_name
    ))
WHERE job.id = ANY (ARRAY (
    SELECT waiting.id
    FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.status = 'todo'
        AND (waiting.scheduled_at IS NULL OR waiting.scheduled_at <= docyard.clock())
        -- A kind that this worker does not know is left for one that does (a rolling deploy).
        AND waiting.task_name = ANY (%(kinds)s::text[])
        AND (%(queues)s::text[] IS NULL OR waiting.queue_name = ANY (%(queues)s::text[]))
        AND waiting.queue_name <> ALL (ARRAY (SELECT name FROM docyard.queues WHERE paused))
        AND (waiting.batch_id IS NULL
            OR waiting.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
        AND (waiting.lock IS NULL OR NOT EXISTS (
            SELECT FROM docyard.procrastinate_jobs AS other
            WHERE other.lock = waiting.lock AND (
                other.status = 'doing'
                OR other.status = 'todo'
                    AND (other.priority > waiting.priority
                        OR other.priority = waiting.priority AND other.id < waiting.id)
                    -- One that began keeps its place while it waits to go on (a snooze gives the attempt back,
                    -- never the lease); a future one that never ran has none.
                    AND (other.scheduled_at IS NULL OR other.scheduled_at <= docyard.clock()
                        OR other.lease > 0)
            )
        ))
    ORDER BY waiting.priority DESC, waiting.id
    LIMIT %(slots)s
    FOR UPDATE SKIP LOCKED
))
-- The payload as text: psycopg would guess its encoding before it reads it.
RETURNING job.id, job.task_name AS kind, job.queue_name AS queue, job.args::text AS payload, job.priority,
    job.attempts AS attempt, job.max_attempts, job.lease, job.lock AS lock_key, job.batch_id,
    job.timeout_seconds, job.created_at, job.started_at, job.alone;
