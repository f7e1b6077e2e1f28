-- name: insert_job
-- A unique key that waits already gives its job's id instead of a second row. Both branches in one
-- statement: one round trip for every enqueue but the rare one that loses a race (see enqueue.py).
WITH added AS (
    INSERT INTO docyard.procrastinate_jobs
        (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, queueing_lock,
            lock, batch_id)
    VALUES (%(kind)s, %(payload)s, %(queue)s, %(priority)s, %(run_at)s, %(max_attempts)s, %(timeout)s,
        %(unique_key)s, %(lock_key)s, %(batch_id)s)
    ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO NOTHING
    RETURNING id
)
SELECT id FROM added
UNION ALL
SELECT id FROM docyard.procrastinate_jobs
WHERE queueing_lock = %(unique_key)s AND status = 'todo' AND NOT EXISTS (SELECT FROM added);

-- name: insert_jobs
-- Ids are handed out in the order of the arrays, so sorting what comes back restores it.
INSERT INTO docyard.procrastinate_jobs
    (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock, batch_id)
SELECT wanted.kind, wanted.payload::jsonb, wanted.queue, wanted.priority, wanted.run_at, wanted.max_attempts,
    wanted.timeout, wanted.lock_key, wanted.batch_id
FROM unnest(%(kinds)s::text[], %(payloads)s::text[], %(queues)s::text[], %(priorities)s::integer[],
        %(run_ats)s::timestamptz[], %(max_attempts)s::integer[], %(timeouts)s::double precision[],
        %(lock_keys)s::text[], %(batch_ids)s::uuid[]) WITH ORDINALITY
    AS wanted (kind, payload, queue, priority, run_at, max_attempts, timeout, lock_key, batch_id, position)
ORDER BY wanted.position
RETURNING id;
