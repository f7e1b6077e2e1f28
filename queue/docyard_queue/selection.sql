-- literal: states = (job.status = 'failed')

-- name: choose
-- The next jobs that fit, by id, locked in that order as every statement of the queue does. The states stand here
-- as literals, so that the planner may take the partial index of one of them.
SELECT job.id FROM docyard.procrastinate_jobs AS job
WHERE {states}
    AND job.id > %(after)s AND job.id <= %(newest)s
    AND (%(kind)s::text IS NULL OR job.task_name = %(kind)s)
    AND (%(queue)s::text IS NULL OR job.queue_name = %(queue)s)
    AND (%(batch)s::uuid IS NULL OR job.batch_id = %(batch)s)
    AND (%(age)s::double precision IS NULL OR coalesce(job.finished_at, job.created_at)
        < docyard.clock() - make_interval(secs => %(age)s))
ORDER BY job.id
LIMIT %(size)s
FOR UPDATE;

-- name: count_jobs
SELECT count(*) FROM docyard.procrastinate_jobs AS job
WHERE {states}
    AND (%(kind)s::text IS NULL OR job.task_name = %(kind)s)
    AND (%(queue)s::text IS NULL OR job.queue_name = %(queue)s)
    AND (%(batch)s::uuid IS NULL OR job.batch_id = %(batch)s)
    AND (%(age)s::double precision IS NULL OR coalesce(job.finished_at, job.created_at)
        < docyard.clock() - make_interval(secs => %(age)s));

-- name: newest_id
SELECT coalesce(max(id), 0) FROM docyard.procrastinate_jobs;
