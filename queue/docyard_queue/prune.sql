-- literal: ended = (job.status = 'succeeded')
-- literal: time = job.finished_at

-- name: delete_batch
-- The oldest first, through the partial index of this state: "ended" and "time" stand here as literals so that the
-- planner sees it. A pass goes on from the time where the last one stopped, for the index entries of deleted rows
-- stay until a vacuum. What somebody has locked (a retry) is left for another day. Attempts go with their job.
WITH chosen AS (
    SELECT job.id, {time} AS ended_at FROM docyard.procrastinate_jobs AS job
    WHERE {ended}
        AND {time} >= %(since)s
        AND {time} < docyard.clock() - make_interval(secs => %(age)s)
    ORDER BY {time}
    LIMIT %(size)s
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM docyard.procrastinate_jobs AS job
    WHERE job.id = ANY (ARRAY (SELECT chosen.id FROM chosen))
    RETURNING job.id
)
SELECT (SELECT count(*) FROM deleted) AS deleted, (SELECT max(chosen.ended_at) FROM chosen) AS until;
