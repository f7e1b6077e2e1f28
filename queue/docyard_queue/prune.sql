-- literal: ended = (job.status = 'succeeded')
-- literal: time = job.finished_at

-- name: delete_batch
-- The oldest first, through the partial index of this state: "ended" and "time" stand here as literals so that the
-- planner sees it. A pass goes on from the time where the last one stopped, for the index entries of deleted rows
-- stay until a vacuum. What somebody has locked (a retry, or a bulk that is taking its unique key over) is left for
-- another day: so this waits for nobody, and cannot be part of a deadlock. Attempts go with their job.
WITH candidate AS (
    SELECT job.id, {time} AS ended_at FROM docyard.procrastinate_jobs AS job
    WHERE {ended}
        AND {time} >= %(since)s
        AND {time} < docyard.clock() - make_interval(secs => %(age)s)
        AND job.id <> ALL (%(passed)s::bigint[])
    ORDER BY {time}
    LIMIT %(size)s
    FOR UPDATE SKIP LOCKED
), free_key AS (
    SELECT held.job_id FROM docyard.unique_keys AS held
    WHERE held.job_id = ANY (ARRAY (SELECT candidate.id FROM candidate))
    FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT candidate.id FROM candidate
    WHERE candidate.id IN (SELECT free_key.job_id FROM free_key)
        OR NOT EXISTS (SELECT FROM docyard.unique_keys AS held WHERE held.job_id = candidate.id)
), deleted AS (
    DELETE FROM docyard.procrastinate_jobs AS job
    WHERE job.id = ANY (ARRAY (SELECT chosen.id FROM chosen))
    RETURNING job.id
)
SELECT (SELECT count(*) FROM deleted) AS deleted, (SELECT max(candidate.ended_at) FROM candidate) AS until,
    ARRAY (SELECT candidate.id FROM candidate EXCEPT SELECT chosen.id FROM chosen) AS passed;
