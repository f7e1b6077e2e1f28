-- docyard's own columns and tables around procrastinate's jobs.

ALTER TABLE docyard.procrastinate_jobs
    -- Only ever grows, by one at each claim: the fence of every write that ends or extends an attempt.
    -- The attempt number cannot be it, for a snooze or a manual retry sets it back.
    ADD COLUMN lease bigint NOT NULL DEFAULT 0,
    -- NULL: the limit of the handler (a procrastinate producer does not know ours).
    ADD COLUMN max_attempts integer CHECK (max_attempts > 0),
    ADD COLUMN timeout_seconds double precision CHECK (timeout_seconds > 0),
    ADD COLUMN batch_id uuid,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT docyard.clock(),
    ADD COLUMN started_at timestamptz,
    ADD COLUMN finished_at timestamptz,
    ADD COLUMN error_code text,
    ADD COLUMN error_message text,
    ADD COLUMN result jsonb,
    ADD COLUMN progress jsonb;

-- Deleting a worker's row would look through every job it ever ran; a job may name a worker that is gone.
ALTER TABLE docyard.procrastinate_jobs DROP CONSTRAINT procrastinate_jobs_worker_id_fkey;

-- procrastinate's two unique indexes also hold every job without such a key, and the one on locks is then a list
-- of all running jobs, dead entries included, that the planner likes to finish jobs by: claim and finish were
-- three times slower than with these (docs/design/queue.md). Same names: its client knows violations by them.
DROP INDEX docyard.procrastinate_jobs_lock_idx_v1;
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON docyard.procrastinate_jobs (lock)
    WHERE status = 'doing' AND lock IS NOT NULL;
DROP INDEX docyard.procrastinate_jobs_queueing_lock_idx_v1;
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON docyard.procrastinate_jobs (queueing_lock)
    WHERE status = 'todo' AND queueing_lock IS NOT NULL;
-- These two served its worker's fetch. Each costs every job two more index entries.
DROP INDEX docyard.procrastinate_jobs_queue_name_idx_v1, docyard.procrastinate_jobs_id_lock_idx_v1;

-- Serves "does another job hold this lock" in the claim. procrastinate's (id, lock) index cannot:
-- with 100 thousand distinct locks its absence halves the rate of claims.
CREATE INDEX jobs_lock_idx ON docyard.procrastinate_jobs (lock, priority DESC, id)
    WHERE lock IS NOT NULL AND status IN ('todo', 'doing');
CREATE INDEX jobs_batch_idx ON docyard.procrastinate_jobs (batch_id, status) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_failed_idx ON docyard.procrastinate_jobs (finished_at DESC, id) WHERE status = 'failed';

-- Attempts that did not simply succeed; a clean only attempt is told by its job row (view "attempts").
CREATE TABLE docyard.job_attempts (
    job_id bigint NOT NULL REFERENCES docyard.procrastinate_jobs ON DELETE CASCADE,
    lease bigint NOT NULL,
    attempt integer NOT NULL,
    worker_id bigint,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT docyard.clock(),
    outcome text NOT NULL CHECK (outcome IN ('failed', 'crashed', 'snoozed', 'released', 'cancelled')),
    error_class text,
    error_message text,
    traceback text,
    PRIMARY KEY (job_id, lease)
);

ALTER TABLE docyard.procrastinate_workers
    ADD COLUMN host text,
    ADD COLUMN pid integer,
    -- Boot and process namespace: another worker of the same scope can see at once whether the pid still lives.
    ADD COLUMN process_scope text,
    -- application_name of its process's sessions; NULL where the connection string gives them another.
    ADD COLUMN session_name text,
    ADD COLUMN queues text[],
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT docyard.clock(),
    -- What the worker promised: a beat every so many seconds. Three missed beats and it is dead.
    ADD COLUMN heartbeat_seconds double precision,
    ADD COLUMN state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopping'));

CREATE TABLE docyard.queues (
    name text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 40),
    paused boolean NOT NULL DEFAULT false,
    paused_reason text,
    updated_at timestamptz NOT NULL DEFAULT docyard.clock()
);

CREATE TABLE docyard.batches (
    id uuid PRIMARY KEY,
    label text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT docyard.clock()
);

-- Row-level triggers cost a NOTIFY pair and up to two event rows per job: 59 % of Postgres's time per job,
-- measured. One NOTIFY per statement and queue says the same to every listener; event rows have no reader here
-- (attempts are kept in job_attempts).
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON docyard.procrastinate_jobs;
DROP TRIGGER procrastinate_trigger_status_events_update_v1 ON docyard.procrastinate_jobs;
DROP TRIGGER procrastinate_trigger_status_events_insert_v1 ON docyard.procrastinate_jobs;
DROP TRIGGER procrastinate_trigger_scheduled_events_v1 ON docyard.procrastinate_jobs;
DROP TRIGGER procrastinate_trigger_abort_requested_events_v1 ON docyard.procrastinate_jobs;

CREATE FUNCTION docyard.notify_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arrived record;
BEGIN
    -- A full NOTIFY queue fails the commit of whoever notifies. Polling finds the jobs as well.
    IF pg_notification_queue_usage() > 0.5 THEN
        RETURN NULL;
    END IF;
    FOR arrived IN
        SELECT queue_name, json_build_object('type', 'job_inserted', 'job_id', min(id))::text AS message
        FROM inserted WHERE status = 'todo' GROUP BY queue_name
    LOOP
        -- A channel's name has 63 bytes at most; a longer queue is still told of on the channel of all.
        IF octet_length(arrived.queue_name) <= 40 THEN
            PERFORM pg_notify('procrastinate_queue_v1#' || arrived.queue_name, arrived.message);
        END IF;
        PERFORM pg_notify('procrastinate_any_queue_v1', arrived.message);
    END LOOP;
    RETURN NULL;
END;
$$;

CREATE TRIGGER notify_jobs_inserted AFTER INSERT ON docyard.procrastinate_jobs
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION docyard.notify_jobs_inserted();

-- The abort notice stays one per row. With a queue's name of more than 40 bytes its channel's would be too long,
-- and the cancel itself would fail.
CREATE OR REPLACE FUNCTION docyard.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    message text := json_build_object('type', 'abort_job_requested', 'job_id', new.id)::text;
BEGIN
    -- The heartbeat finds what a full NOTIFY queue keeps back.
    IF pg_notification_queue_usage() > 0.5 THEN
        RETURN new;
    END IF;
    IF octet_length(new.queue_name) <= 40 THEN
        PERFORM pg_notify('procrastinate_queue_v1#' || new.queue_name, message);
    END IF;
    PERFORM pg_notify('procrastinate_any_queue_v1', message);
    RETURN new;
END;
$$;

-- The one way from stored columns to the state that a person sees (docyard_queue.states has the same table,
-- and a test holds the two together).
CREATE FUNCTION docyard.job_state(
    status docyard.procrastinate_job_status, attempts integer, scheduled_at timestamptz
) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE status
    WHEN 'todo' THEN CASE
        WHEN scheduled_at IS NULL OR scheduled_at <= docyard.clock() THEN 'available'
        WHEN attempts > 0 THEN 'retryable'
        ELSE 'scheduled'
    END
    WHEN 'doing' THEN 'running'
    WHEN 'succeeded' THEN 'completed'
    WHEN 'failed' THEN 'dead'
    ELSE 'cancelled'
END;

-- procrastinate's own worker would claim without counting the attempt and finish without a lease.
CREATE OR REPLACE FUNCTION docyard.procrastinate_register_worker_v1() RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'These jobs are run by docyard''s workers, not by procrastinate''s.'
        USING HINT = 'Start one with: docyard worker --app MODULE:REGISTRY '
            '(Registry.from_procrastinate(app) takes the tasks of an App over).';
END;
$$;
