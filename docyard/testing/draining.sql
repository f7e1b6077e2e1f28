-- name: now
SELECT docyard.clock();

-- name: next_time
-- When the next job may run that only waits for its time; NULL: none does.
SELECT min(scheduled_at) FROM docyard.procrastinate_jobs
WHERE status = 'todo' AND scheduled_at > docyard.clock()
    AND task_name = ANY (%(kinds)s::text[])
    AND (%(queues)s::text[] IS NULL OR queue_name = ANY (%(queues)s::text[]))
    AND queue_name <> ALL (ARRAY (SELECT name FROM docyard.queues WHERE paused))
    AND (batch_id IS NULL OR batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)));
