-- name: register
INSERT INTO docyard.procrastinate_workers
    (last_heartbeat, host, pid, process_scope, session_name, queues, kinds,
        heartbeat_seconds)
VALUES (docyard.clock(), %(host)s, %(pid)s, %(scope)s, %(session)s, %(queues)s, %(kinds)s,
    %(heartbeat)s)
RETURNING id;

-- name: beat
-- Also the fallback for a lost notification: which of this worker's jobs somebody wants cancelled.
WITH beaten AS (
    UPDATE docyard.procrastinate_workers SET last_heartbeat = docyard.clock(), state = %(state)s
    WHERE id = %(worker)s
    RETURNING id
)
SELECT EXISTS (SELECT FROM beaten) AS known, ARRAY (
    SELECT job.id FROM docyard.procrastinate_jobs AS job
    WHERE job.worker_id = %(worker)s AND job.status = 'doing' AND job.abort_requested
) AS cancelled;

-- name: come_back
-- Somebody took this worker for dead and removed its row; it lives, under the number it had.
INSERT INTO docyard.procrastinate_workers
    (id, last_heartbeat, host, pid, process_scope, session_name, queues, kinds,
        heartbeat_seconds)
OVERRIDING SYSTEM VALUE
VALUES (%(worker)s, docyard.clock(), %(host)s, %(pid)s, %(scope)s, %(session)s, %(queues)s, %(kinds)s,
    %(heartbeat)s)
ON CONFLICT (id) DO NOTHING;

-- name: unregister
DELETE FROM docyard.procrastinate_workers WHERE id = %(worker)s;

-- name: neighbours
SELECT id, pid FROM docyard.procrastinate_workers WHERE process_scope = %(scope)s AND id <> %(worker)s;

-- name: cancel_requested
SELECT job.id FROM docyard.procrastinate_jobs AS job
WHERE job.worker_id = %(worker)s AND job.status = 'doing' AND job.abort_requested;

-- name: strays
-- Jobs that stand under this worker's number and that it does not hold: the answer to their claim was lost.
-- A claim that is on its way is younger than the grace.
SELECT job.id, job.lease FROM docyard.procrastinate_jobs AS job
WHERE job.worker_id = %(worker)s AND job.status = 'doing'
    AND job.started_at <= docyard.clock() - make_interval(secs => %(grace)s)
    AND NOT EXISTS (
        SELECT FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[]) AS held (id, lease)
        WHERE held.id = job.id AND held.lease = job.lease
    )
ORDER BY job.id;

-- name: rescue
-- Jobs whose worker missed three heartbeats, or is known to be gone. The attempt was counted when they were
-- claimed, so a job that kills its worker comes to an end. FOR UPDATE SKIP LOCKED: several rescuers share.
-- A crash counts against a job that was the only one of its worker, or that had begun to run alone. Of several
-- nobody knows the guilty one: they get their attempt back, once, and run alone from now on. Others of the worker
-- still run in this snapshot, or an earlier rescue has told of them: their attempts ended after ours began.
WITH alive AS (
    SELECT worker.id FROM docyard.procrastinate_workers AS worker
    WHERE worker.id <> ALL (%(dead)s::bigint[])
        -- Whoever asks is alive. Without "silent" silence says nothing: the asker could not be heard either.
        AND (worker.id = %(worker)s OR NOT %(silent)s OR worker.last_heartbeat
            >= docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10)))
), lost AS (
    SELECT job.id, job.lease, job.attempts, job.max_attempts, job.worker_id, job.started_at, job.queueing_lock,
        job.alone, job.abort_requested,
        CASE WHEN job.alone THEN job.began_alone IS NOT DISTINCT FROM job.lease
            ELSE NOT EXISTS (
                SELECT FROM docyard.procrastinate_jobs AS other
                WHERE other.worker_id = job.worker_id AND other.status = 'doing' AND other.id <> job.id
            ) AND NOT EXISTS (
                SELECT FROM docyard.job_attempts AS told
                WHERE told.worker_id = job.worker_id AND told.outcome IN ('crashed', 'released')
                    AND told.finished_at > job.started_at AND told.job_id <> job.id
            ) END AS counts
    FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'doing' AND NOT EXISTS (SELECT FROM alive WHERE alive.id = job.worker_id)
    ORDER BY job.id
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
), judged AS (
    SELECT lost.*, CASE WHEN abort_requested THEN 'aborted'
        WHEN counts AND attempts >= coalesce(max_attempts, 20) THEN 'failed' ELSE 'todo' END AS next
    FROM lost
), told AS (
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_class, error_message)
    SELECT id, lease, attempts, worker_id, coalesce(started_at, docyard.clock()),
        CASE WHEN counts THEN 'crashed' ELSE 'released' END, NULL,
        CASE WHEN counts THEN 'the worker process ended or stopped answering'
            WHEN alone THEN 'the worker process ended before it began to run alone'
            ELSE 'ran beside others in a worker process that ended: it runs alone next' END
    FROM judged
    ON CONFLICT (job_id, lease) DO NOTHING
), placed AS (
    -- Two of them may have had the same unique key, one after the other: the first takes it along.
    SELECT judged.*, NOT counts AND next = 'todo' AS innocent,
        row_number() OVER (PARTITION BY queueing_lock, next ORDER BY id) AS place
    FROM judged
)
UPDATE docyard.procrastinate_jobs AS job
SET status = placed.next::docyard.procrastinate_job_status,
    attempts = CASE WHEN placed.innocent THEN job.attempts - 1 ELSE job.attempts END,
    alone = job.alone OR placed.innocent,
    -- The first crash may be no fault of the job (a deploy, an evicted host): it runs again at once. The
    -- wait doubles from the second on, up to five minutes, so a poisonous job cannot take workers down in a row.
    scheduled_at = CASE WHEN placed.next = 'todo' AND placed.counts AND placed.attempts > 1
        THEN docyard.clock() + make_interval(secs => least(300, power(2, least(placed.attempts, 16))))
        ELSE job.scheduled_at END,
    finished_at = CASE WHEN placed.next <> 'todo' THEN docyard.clock() END,
    abort_requested = false,
    error_code = CASE WHEN placed.innocent THEN job.error_code ELSE 'crashed' END,
    error_message = CASE WHEN placed.innocent THEN job.error_message
        ELSE 'the worker process ended or stopped answering' END,
    queueing_lock = CASE WHEN placed.next = 'todo' AND (%(give_up_keys)s OR placed.place > 1 OR EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS sibling
        WHERE sibling.queueing_lock = placed.queueing_lock AND sibling.status = 'todo'
    )) THEN NULL ELSE job.queueing_lock END,
    worker_id = CASE WHEN placed.next <> 'todo' THEN job.worker_id END
FROM placed WHERE job.id = placed.id
RETURNING job.id, job.task_name, job.attempts, job.status = 'failed' AS dead, placed.innocent;

-- name: end_sessions
-- A worker that was stopped inside a commit block holds its job's row: a rescuer passes it over, and the job would
-- wait until that process ends. So the open transactions of workers that are gone are ended, and rolled back with
-- that. Never those of the asker's own process, of which another worker may be taken for lost.
SELECT pg_terminate_backend(activity.pid, 1000)
FROM docyard.procrastinate_workers AS worker
JOIN pg_stat_activity AS activity
    ON activity.application_name = worker.session_name AND activity.datname = current_database()
    AND activity.xact_start IS NOT NULL
WHERE (worker.id = ANY (%(dead)s::bigint[]) OR %(silent)s AND worker.last_heartbeat
        < docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10)))
    AND worker.session_name <> %(session)s
    AND EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS job WHERE job.worker_id = worker.id AND job.status = 'doing'
    );

-- name: end_abandoned
-- Sessions of this process whose connections fell silent and were closed at our end. Nobody told the server, so
-- one that stood in a commit block holds its job's row, for hours. A pid may be another's by now: only one that
-- is older than the connection's end counts.
SELECT pg_terminate_backend(activity.pid, 1000)
FROM unnest(%(pids)s::integer[], %(seconds_ago)s::double precision[]) AS given_up (pid, seconds_ago)
JOIN pg_stat_activity AS activity
    ON activity.pid = given_up.pid AND activity.datname = current_database()
    AND activity.application_name = current_setting('application_name')
    AND activity.backend_start < clock_timestamp() - make_interval(secs => given_up.seconds_ago);

-- name: forget_gone
-- Rows of workers that are gone and hold nothing any more.
DELETE FROM docyard.procrastinate_workers AS worker
WHERE worker.id <> %(worker)s
    AND (worker.id = ANY (%(dead)s::bigint[]) OR %(silent)s AND worker.last_heartbeat
        < docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10)))
    AND NOT EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS job WHERE job.worker_id = worker.id AND job.status = 'doing'
    );
