-- name: complete
-- Any number of attempts in one statement, each guarded by its lease. The ids come in their order and are
-- looked up in it, so two of these hardly ever wait for each other in a circle; should they, Postgres ends one,
-- and it is tried again. Locking the rows first, in order, cost a sixth more (docs/design/fast-path.md).
-- Results are NULL as a whole when no job of the batch has one.
UPDATE docyard.procrastinate_jobs AS job
SET status = 'succeeded', finished_at = docyard.clock(), result = wanted.result::jsonb, abort_requested = false,
    error_code = NULL, error_message = NULL
FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[], %(results)s::text[]) AS wanted (id, lease, result)
WHERE job.id = wanted.id AND job.lease = wanted.lease AND job.status = 'doing'
RETURNING job.id, job.lease;

-- name: completed_before
-- Of attempts whose completion came back short: those that an earlier try, whose answer was lost, completed.
SELECT job.id, job.lease
FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[]) AS wanted (id, lease)
JOIN docyard.procrastinate_jobs AS job
    ON job.id = wanted.id AND job.lease = wanted.lease AND job.status = 'succeeded';

-- name: complete_one
-- The head of a handler's own transaction: it takes the row's lock, proves the lease and completes the job,
-- all of which is undone if what follows fails.
UPDATE docyard.procrastinate_jobs
SET status = 'succeeded', finished_at = docyard.clock(), result = %(result)s::jsonb, abort_requested = false,
    error_code = NULL, error_message = NULL
WHERE id = %(id)s AND lease = %(lease)s AND status = 'doing'
RETURNING id;

-- name: complete_held
-- The head of a transaction that writes for many attempts: as complete_one, of those whose lease holds. Their rows are
-- locked first, in order, for the transaction goes on with other people's writes, and is not tried again by us.
WITH held AS MATERIALIZED (
    SELECT job.id, wanted.result
    FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[], %(results)s::text[]) AS wanted (id, lease, result)
    JOIN docyard.procrastinate_jobs AS job ON job.id = wanted.id AND job.lease = wanted.lease
    WHERE job.status = 'doing'
    ORDER BY job.id
    FOR UPDATE OF job
)
UPDATE docyard.procrastinate_jobs AS job
SET status = 'succeeded', finished_at = docyard.clock(), result = held.result::jsonb, abort_requested = false,
    error_code = NULL, error_message = NULL
FROM held
WHERE job.id = held.id
RETURNING job.id, job.lease;

-- name: fail
-- To be retried after a delay, or dead. The attempt's story goes into job_attempts either way. A cancel that
-- was asked for meanwhile wins over a retry. A unique key whose place another waiting job has taken is given
-- up: the retry matters more than the key.
WITH held AS (
    SELECT job.id, job.lease, job.attempts, job.worker_id, job.started_at, job.queueing_lock,
        CASE WHEN job.abort_requested THEN 'aborted'
            WHEN %(retry_in)s::double precision IS NULL OR job.attempts >= job.max_attempts THEN 'failed'
            ELSE 'todo' END AS next
    FROM docyard.procrastinate_jobs AS job
    WHERE job.id = %(id)s AND job.lease = %(lease)s AND job.status = 'doing'
    FOR UPDATE
), told AS (
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_class, error_message, traceback)
    SELECT id, lease, attempts, worker_id, started_at, %(outcome)s, %(error_class)s, %(message)s, %(traceback)s
    FROM held
)
UPDATE docyard.procrastinate_jobs AS job
SET status = held.next::docyard.procrastinate_job_status,
    scheduled_at = CASE held.next
        WHEN 'todo' THEN docyard.clock() + make_interval(secs => %(retry_in)s) ELSE job.scheduled_at END,
    finished_at = CASE WHEN held.next <> 'todo' THEN docyard.clock() END,
    worker_id = CASE WHEN held.next <> 'todo' THEN job.worker_id END,
    abort_requested = false,
    error_code = %(code)s,
    error_message = %(message)s,
    queueing_lock = CASE WHEN held.next = 'todo' AND (%(give_up_key)s OR EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS sibling
        WHERE sibling.queueing_lock = held.queueing_lock AND sibling.status = 'todo'
    )) THEN NULL ELSE job.queueing_lock END
FROM held WHERE job.id = held.id
RETURNING job.id;

-- name: put_back
-- Snoozed, rate limited, or released by a worker that stops: the attempt is given back. A cancel that was
-- asked for meanwhile wins.
WITH held AS (
    SELECT job.id, job.lease, job.attempts, job.worker_id, job.started_at, job.queueing_lock,
        job.abort_requested AS ends
    FROM docyard.procrastinate_jobs AS job
    WHERE job.id = %(id)s AND job.lease = %(lease)s AND job.status = 'doing'
    FOR UPDATE
), told AS (
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_message)
    SELECT id, lease, attempts, worker_id, started_at, CASE WHEN ends THEN 'cancelled' ELSE %(outcome)s END,
        %(message)s
    FROM held
)
UPDATE docyard.procrastinate_jobs AS job
SET status = CASE WHEN held.ends THEN 'aborted' ELSE 'todo' END::docyard.procrastinate_job_status,
    attempts = CASE WHEN held.ends THEN job.attempts ELSE job.attempts - 1 END,
    -- Without a delay it has been due since it was first.
    scheduled_at = CASE WHEN %(delay)s::double precision > 0 AND NOT held.ends
        THEN docyard.clock() + make_interval(secs => %(delay)s) ELSE job.scheduled_at END,
    finished_at = CASE WHEN held.ends THEN docyard.clock() END,
    worker_id = CASE WHEN held.ends THEN job.worker_id END,
    error_code = CASE WHEN held.ends THEN 'cancelled' ELSE job.error_code END,
    abort_requested = false,
    queueing_lock = CASE WHEN NOT held.ends AND (%(give_up_key)s OR EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS sibling
        WHERE sibling.queueing_lock = held.queueing_lock AND sibling.status = 'todo'
    )) THEN NULL ELSE job.queueing_lock END
FROM held WHERE job.id = held.id
RETURNING job.id;

-- name: put_back_many
-- As put_back, for many at once: a batch that is stopped or told to wait. Two of them may have had the same unique key,
-- one after the other: the first takes it along.
WITH held AS (
    SELECT job.id, job.lease, job.attempts, job.worker_id, job.started_at, job.queueing_lock,
        job.abort_requested AS ends, wanted.outcome, wanted.delay, wanted.message
    FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[], %(outcomes)s::text[], %(delays)s::double precision[],
        %(messages)s::text[]) AS wanted (id, lease, outcome, delay, message)
    JOIN docyard.procrastinate_jobs AS job ON job.id = wanted.id AND job.lease = wanted.lease
    WHERE job.status = 'doing'
    ORDER BY job.id
    FOR UPDATE OF job
), told AS (
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_message)
    SELECT id, lease, attempts, worker_id, started_at, CASE WHEN ends THEN 'cancelled' ELSE outcome END, message
    FROM held
), placed AS (
    SELECT held.*, row_number() OVER (PARTITION BY held.queueing_lock, held.ends ORDER BY held.id) AS place FROM held
)
UPDATE docyard.procrastinate_jobs AS job
SET status = CASE WHEN held.ends THEN 'aborted' ELSE 'todo' END::docyard.procrastinate_job_status,
    attempts = CASE WHEN held.ends THEN job.attempts ELSE job.attempts - 1 END,
    scheduled_at = CASE WHEN held.delay > 0 AND NOT held.ends
        THEN docyard.clock() + make_interval(secs => held.delay) ELSE job.scheduled_at END,
    finished_at = CASE WHEN held.ends THEN docyard.clock() END,
    worker_id = CASE WHEN held.ends THEN job.worker_id END,
    error_code = CASE WHEN held.ends THEN 'cancelled' ELSE job.error_code END,
    abort_requested = false,
    queueing_lock = CASE WHEN NOT held.ends AND (%(give_up_keys)s OR held.place > 1 OR EXISTS (
        SELECT FROM docyard.procrastinate_jobs AS sibling
        WHERE sibling.queueing_lock = held.queueing_lock AND sibling.status = 'todo'
    )) THEN NULL ELSE job.queueing_lock END
FROM placed AS held WHERE job.id = held.id
RETURNING job.id, job.lease;

-- name: cancel_running
WITH held AS (
    SELECT job.id, job.lease, job.attempts, job.worker_id, job.started_at
    FROM docyard.procrastinate_jobs AS job
    WHERE job.id = %(id)s AND job.lease = %(lease)s AND job.status = 'doing'
    FOR UPDATE
), told AS (
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_message)
    SELECT id, lease, attempts, worker_id, started_at, 'cancelled', %(reason)s FROM held
)
UPDATE docyard.procrastinate_jobs AS job
SET status = 'aborted', finished_at = docyard.clock(), abort_requested = false,
    error_code = 'cancelled', error_message = %(reason)s
FROM held WHERE job.id = held.id
RETURNING job.id;

-- name: begin_alone
-- From here on the end of the process counts against the job.
UPDATE docyard.procrastinate_jobs SET began_alone = lease
WHERE id = %(id)s AND lease = %(lease)s AND status = 'doing'
RETURNING id;

-- name: begin_together
-- Some that must run alone begin in one child: if that dies they are halved, and nobody is blamed yet. Should the worker
-- end too, the mark (the lease, negative) says that each has to begin by itself the next time.
UPDATE docyard.procrastinate_jobs AS job SET began_alone = -job.lease
FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[]) AS wanted (id, lease)
WHERE job.id = wanted.id AND job.lease = wanted.lease AND job.status = 'doing'
RETURNING job.id, job.lease;

-- name: began_together
-- Those that began in one child with others, and were given back because their worker ended.
SELECT job.id, job.lease
FROM unnest(%(ids)s::bigint[], %(leases)s::bigint[]) AS wanted (id, lease)
JOIN docyard.procrastinate_jobs AS job ON job.id = wanted.id AND job.lease = wanted.lease
WHERE job.began_alone < 0 AND EXISTS (
    SELECT FROM docyard.job_attempts AS told
    WHERE told.job_id = job.id AND told.lease = -job.began_alone AND told.outcome = 'released'
);

-- name: is_completed
SELECT id FROM docyard.procrastinate_jobs
WHERE id = %(id)s AND lease = %(lease)s AND status = 'succeeded';

-- name: report_progress
UPDATE docyard.procrastinate_jobs SET progress = %(progress)s::jsonb
WHERE id = %(id)s AND lease = %(lease)s AND status = 'doing'
RETURNING id;
