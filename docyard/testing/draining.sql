-- name: now
SELECT docyard.clock();

-- name: next_time
-- When the next job may run that only waits for its time, or a cool-down ends while jobs wait; NULL: nothing comes.
WITH waiting AS (
    SELECT job.scheduled_at FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'todo'
        AND job.task_name = ANY (%(kinds)s::text[])
        AND (%(queues)s::text[] IS NULL OR job.queue_name = ANY (%(queues)s::text[]))
        AND job.queue_name <> ALL (ARRAY (SELECT name FROM docyard.queues WHERE paused))
        AND (job.batch_id IS NULL OR job.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
)
SELECT least(
    (SELECT min(scheduled_at) FROM waiting WHERE scheduled_at > docyard.clock()),
    (SELECT min(until) FROM docyard.cool_downs WHERE until > docyard.clock() AND EXISTS (SELECT FROM waiting))
);
