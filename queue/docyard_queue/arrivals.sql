-- name: may_come
-- Whether a job runs, or could be claimed now, that may bring more of what somebody gathers: "running" kinds make it,
-- "waiting" kinds are it or make it. Asked many times a second: each way to wait is one probe of its index per queue,
-- ordered as the index is (of EXISTS alone the planner expects any row to do, and reads the table). What is paused or
-- cools down does not count, nor what waits for its time.
SELECT EXISTS (
    SELECT FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'doing' AND job.worker_id IS NOT NULL AND job.task_name = ANY (%(running)s::text[])
) OR EXISTS (
    SELECT
    FROM unnest(%(queues)s::text[]) AS queue (name)
    CROSS JOIN LATERAL (
        (SELECT job.id FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at IS NULL AND job.partition_key IS NULL AND job.parked IS NULL
            AND job.queue_name = queue.name AND job.task_name = ANY (%(waiting)s::text[])
            AND (job.batch_id IS NULL OR job.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
        ORDER BY job.priority DESC, job.id LIMIT 1)
        UNION ALL
        (SELECT job.id FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.scheduled_at <= docyard.clock() AND job.partition_key IS NULL
            AND job.queue_name = queue.name AND job.task_name = ANY (%(waiting)s::text[])
            AND (job.batch_id IS NULL OR job.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
        ORDER BY job.priority DESC, job.scheduled_at, job.id LIMIT 1)
        UNION ALL
        (SELECT job.id FROM docyard.procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.partition_key IS NOT NULL
            AND (job.scheduled_at IS NULL OR job.scheduled_at <= docyard.clock())
            AND job.queue_name = queue.name AND job.task_name = ANY (%(waiting)s::text[])
            AND (job.batch_id IS NULL OR job.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
        ORDER BY job.partition_key, job.priority DESC LIMIT 1)
    ) AS coming
    WHERE NOT EXISTS (SELECT FROM docyard.queues AS known WHERE known.name = queue.name AND known.paused)
        AND NOT EXISTS (
            SELECT FROM docyard.cool_downs AS pause
            WHERE pause.name = 'queue ' || queue.name AND pause.until > docyard.clock()
        )
);
