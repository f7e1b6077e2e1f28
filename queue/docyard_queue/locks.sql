-- name: wake_next
-- Whether the first in line for one of these lock keys, which became free, is a job that others serve. One notice is enough: whoever hears of
-- it looks for all. A full NOTIFY queue would fail the statement, and polling finds the jobs as well.
SELECT pg_notify('procrastinate_any_queue_v1',
    json_build_object('type', 'job_inserted', 'job_id', min(next.id))::text)
FROM unnest(%(keys)s::text[]) AS freed (key)
CROSS JOIN LATERAL (
    -- Only the first in line may run.
    SELECT job.id, job.queue_name FROM docyard.procrastinate_jobs AS job
    WHERE job.lock = freed.key AND job.status = 'todo'
        AND (job.scheduled_at IS NULL OR job.scheduled_at <= docyard.clock())
    ORDER BY job.priority DESC, job.id
    LIMIT 1
) AS next
WHERE %(queues)s::text[] IS NULL OR next.queue_name <> ALL (%(queues)s::text[])
HAVING min(next.id) IS NOT NULL AND pg_notification_queue_usage() <= 0.5;
