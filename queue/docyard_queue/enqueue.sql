-- name: insert_job
-- Without a unique key this is all: nobody has to be looked for.
INSERT INTO docyard.procrastinate_jobs
    (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock, batch_id,
        partition_key, weight)
VALUES (%(kind)s, %(payload)s, %(queue)s, %(priority)s, %(run_at)s, %(max_attempts)s, %(timeout)s, %(lock_key)s,
    %(batch_id)s, %(partition_key)s, %(weight)s)
RETURNING id;

-- name: insert_keyed_job
-- The database's own function, so that every language has the same unique keys (schema step "enqueue").
SELECT docyard.insert_job(%(kind)s, %(payload)s::jsonb, %(queue)s, %(priority)s, %(run_at)s, %(max_attempts)s,
    %(timeout)s, %(unique_key)s, %(lock_key)s, %(batch_id)s, %(unique_scope)s, %(unique_for)s,
    %(partition_key)s, %(weight)s);

-- name: insert_jobs
-- Ids are handed out in the order of the arrays, so sorting what comes back restores it. What all jobs have alike
-- comes once; its array is NULL then, and each row's value with it.
INSERT INTO docyard.procrastinate_jobs
    (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock, batch_id,
        partition_key, weight)
SELECT coalesce(wanted.kind, %(kind)s), wanted.payload::jsonb, coalesce(wanted.queue, %(queue)s),
    coalesce(wanted.priority, %(priority)s), coalesce(wanted.run_at, %(run_at)s::timestamptz),
    coalesce(wanted.max_attempts, %(max_attempts)s::integer),
    coalesce(wanted.timeout, %(timeout)s::double precision), coalesce(wanted.lock_key, %(lock_key)s),
    coalesce(wanted.batch_id, %(batch_id)s::uuid), coalesce(wanted.partition_key, %(partition_key)s),
    coalesce(wanted.weight, %(weight)s::double precision)
FROM unnest(%(payloads)s::text[], %(kinds)s::text[], %(queues)s::text[], %(priorities)s::integer[],
        %(run_ats)s::timestamptz[], %(all_max_attempts)s::integer[], %(timeouts)s::double precision[],
        %(lock_keys)s::text[], %(batch_ids)s::uuid[], %(partition_keys)s::text[],
        %(weights)s::double precision[]) WITH ORDINALITY
    AS wanted (payload, kind, queue, priority, run_at, max_attempts, timeout, lock_key, batch_id, partition_key,
        weight, position)
ORDER BY wanted.position
RETURNING id;

-- name: insert_keyed_jobs
-- One after the other in the order given, which is that of their keys: the subquery is sorted before the
-- function is called. Each call sees what those before it did.
SELECT docyard.insert_job(coalesce(wanted.kind, %(kind)s), wanted.payload::jsonb,
    coalesce(wanted.queue, %(queue)s), coalesce(wanted.priority, %(priority)s),
    coalesce(wanted.run_at, %(run_at)s::timestamptz), coalesce(wanted.max_attempts, %(max_attempts)s::integer),
    coalesce(wanted.timeout, %(timeout)s::double precision), coalesce(wanted.unique_key, %(unique_key)s),
    coalesce(wanted.lock_key, %(lock_key)s), coalesce(wanted.batch_id, %(batch_id)s::uuid),
    coalesce(wanted.unique_scope, %(unique_scope)s), coalesce(wanted.unique_for, %(unique_for)s::interval),
    coalesce(wanted.partition_key, %(partition_key)s), coalesce(wanted.weight, %(weight)s::double precision))
FROM (
    SELECT * FROM unnest(%(payloads)s::text[], %(kinds)s::text[], %(queues)s::text[], %(priorities)s::integer[],
            %(run_ats)s::timestamptz[], %(all_max_attempts)s::integer[], %(timeouts)s::double precision[],
            %(lock_keys)s::text[], %(batch_ids)s::uuid[], %(unique_keys)s::text[], %(unique_scopes)s::text[],
            %(unique_fors)s::interval[], %(partition_keys)s::text[], %(weights)s::double precision[])
            WITH ORDINALITY
        AS given (payload, kind, queue, priority, run_at, max_attempts, timeout, lock_key, batch_id, unique_key,
            unique_scope, unique_for, partition_key, weight, position)
    ORDER BY position OFFSET 0
) AS wanted;
