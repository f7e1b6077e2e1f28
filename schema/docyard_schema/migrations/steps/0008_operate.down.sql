CREATE OR REPLACE VIEW docyard.queue_stats AS
SELECT coalesce(counted.queue, queue.name) AS queue,
    coalesce(queue.paused, false) AS paused,
    coalesce(counted.scheduled, 0) AS scheduled,
    coalesce(counted.available, 0) AS available,
    coalesce(counted.running, 0) AS running,
    coalesce(counted.retryable, 0) AS retryable,
    coalesce(counted.dead, 0) AS dead,
    coalesce(counted.completed_24h, 0) AS completed_24h,
    counted.oldest_available_s
FROM (
    SELECT job.queue AS queue,
        count(*) FILTER (WHERE job.state = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE job.state = 'available') AS available,
        count(*) FILTER (WHERE job.state = 'running') AS running,
        count(*) FILTER (WHERE job.state = 'retryable') AS retryable,
        count(*) FILTER (WHERE job.state = 'dead') AS dead,
        count(*) FILTER (
            WHERE job.state = 'completed' AND job.finished_at > docyard.clock() - interval '24 hours'
        ) AS completed_24h,
        extract(epoch FROM docyard.clock() - min(job.run_at) FILTER (WHERE job.state = 'available'))
            AS oldest_available_s
    FROM docyard.jobs AS job
    GROUP BY job.queue
) AS counted
FULL JOIN docyard.queues AS queue ON queue.name = counted.queue;

DROP INDEX docyard.jobs_completed_idx, docyard.jobs_cancelled_idx, docyard.jobs_dead_queue_idx;
ALTER TABLE docyard.procrastinate_workers DROP COLUMN kinds;
