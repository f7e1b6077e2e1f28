-- What procrastinate's own client may do to a job, so that no job is left in a state that docyard's workers do not
-- know; and its event rows, for whoever wants them.

-- Whether the worker of a running job is taken for lost, by the rule of the rescue: it has no row, or has missed
-- three heartbeats. A job of a worker that lives is never taken from it here, only asked to end.
CREATE FUNCTION docyard.worker_is_lost(worker_id bigint) RETURNS boolean
LANGUAGE sql STABLE
RETURN NOT EXISTS (
    SELECT FROM docyard.procrastinate_workers AS worker
    WHERE worker.id = worker_is_lost.worker_id AND worker.last_heartbeat
        >= docyard.clock() - make_interval(secs => 3 * coalesce(worker.heartbeat_seconds, 10))
);

-- Writes the attempt of a running job down as crashed, as a rescue does; refuses a job whose worker lives. The
-- caller has locked it.
CREATE FUNCTION docyard.take_from_lost_worker(job_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (
        SELECT docyard.worker_is_lost(job.worker_id) FROM docyard.procrastinate_jobs AS job
        WHERE job.id = take_from_lost_worker.job_id
    ) THEN
        RAISE EXCEPTION 'Job % is running, and its worker lives.', job_id
            USING ERRCODE = 'object_in_use',
                HINT = 'Ask it to end (docyard jobs cancel, or procrastinate''s cancel with abort) and retry it '
                    'then. The jobs of a lost worker are taken over by the others.';
    END IF;
    INSERT INTO docyard.job_attempts
        (job_id, lease, attempt, worker_id, started_at, outcome, error_message)
    SELECT job.id, job.lease, job.attempts, job.worker_id, coalesce(job.started_at, docyard.clock()), 'crashed',
        'the worker process ended or stopped answering'
    FROM docyard.procrastinate_jobs AS job
    WHERE job.id = take_from_lost_worker.job_id
    ON CONFLICT ON CONSTRAINT job_attempts_pkey DO NOTHING;
END;
$$;

-- procrastinate's retry counted an attempt that never ran. This one is docyard's (inspection.sql): the job has all
-- its attempts again, and keeps its lease, so whoever held it before writes nothing more. Where a sibling waits
-- under its unique key it goes without.
CREATE OR REPLACE FUNCTION docyard.procrastinate_retry_job_v2(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found docyard.procrastinate_jobs;
    give_up_key boolean := false;
BEGIN
    SELECT job.* INTO found FROM docyard.procrastinate_jobs AS job
    WHERE job.id = job_id AND job.status IN ('doing', 'failed')
    FOR UPDATE;
    IF found.id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;
    IF found.status = 'doing' THEN
        PERFORM docyard.take_from_lost_worker(found.id);
        IF found.abort_requested THEN
            UPDATE docyard.procrastinate_jobs AS job
            SET status = 'aborted', finished_at = docyard.clock(), abort_requested = false,
                error_code = 'cancelled', error_message = 'cancelled while it ran'
            WHERE job.id = found.id;
            RETURN;
        END IF;
    END IF;
    LOOP
        give_up_key := give_up_key OR EXISTS (
            SELECT FROM docyard.procrastinate_jobs AS sibling
            WHERE sibling.queueing_lock = found.queueing_lock AND sibling.status = 'todo'
        );
        BEGIN
            UPDATE docyard.procrastinate_jobs AS job
            SET status = 'todo', attempts = 0, abort_requested = false, worker_id = NULL, finished_at = NULL,
                error_code = NULL, error_message = NULL,
                scheduled_at = coalesce(retry_at, docyard.clock()),
                priority = coalesce(new_priority, job.priority),
                queue_name = coalesce(new_queue_name, job.queue_name),
                lock = coalesce(new_lock, job.lock),
                queueing_lock = CASE WHEN NOT give_up_key THEN job.queueing_lock END
            WHERE job.id = found.id;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            -- A sibling began to wait after our look.
            IF give_up_key THEN
                RAISE;
            END IF;
            give_up_key := true;
        END;
    END LOOP;
    -- What is left of a batch that was cancelled may run again.
    UPDATE docyard.batches AS batch SET cancelled_at = NULL
    WHERE batch.id = found.batch_id AND batch.cancelled_at IS NOT NULL;
    -- An UPDATE says nothing to listeners.
    PERFORM pg_notify('procrastinate_any_queue_v1',
        json_build_object('type', 'job_inserted', 'job_id', found.id)::text);
END;
$$;

-- What clients of an earlier procrastinate call.
CREATE OR REPLACE FUNCTION docyard.procrastinate_retry_job_v1(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT docyard.procrastinate_retry_job_v2(job_id, retry_at, new_priority, new_queue_name, new_lock);
$$;

-- As procrastinate's, with the time of the end. What has ended is asked nothing more.
CREATE OR REPLACE FUNCTION docyard.procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM docyard.procrastinate_jobs AS job
        WHERE job.id = job_id AND job.status = 'todo'
        RETURNING job.id INTO changed;
    END IF;
    IF changed IS NULL THEN
        UPDATE docyard.procrastinate_jobs AS job
        SET status = CASE job.status WHEN 'todo' THEN 'cancelled' ELSE job.status END,
            abort_requested = job.status = 'doing',
            finished_at = CASE job.status WHEN 'todo' THEN docyard.clock() END
        WHERE job.id = job_id AND (job.status = 'todo' OR abort AND job.status = 'doing')
        RETURNING job.id INTO changed;
    END IF;
    RETURN changed;
END;
$$;

-- Ends a job from outside: one that waits, or whose worker is lost. An attempt that did not run is not counted.
CREATE OR REPLACE FUNCTION docyard.procrastinate_finish_job_v1(
    job_id bigint, end_status docyard.procrastinate_job_status, delete_job boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found docyard.procrastinate_jobs;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    SELECT job.* INTO found FROM docyard.procrastinate_jobs AS job
    WHERE job.id = job_id AND job.status IN ('todo', 'doing')
    FOR UPDATE;
    IF found.id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
    IF found.status = 'doing' THEN
        PERFORM docyard.take_from_lost_worker(found.id);
    END IF;
    IF delete_job THEN
        DELETE FROM docyard.procrastinate_jobs AS job WHERE job.id = found.id;
        RETURN;
    END IF;
    UPDATE docyard.procrastinate_jobs AS job
    SET status = end_status, finished_at = docyard.clock(), abort_requested = false,
        error_code = CASE end_status WHEN 'failed' THEN 'ended_by_hand' WHEN 'aborted' THEN 'cancelled' END,
        error_message = CASE WHEN end_status <> 'succeeded' THEN 'ended by procrastinate''s finish_job' END
    WHERE job.id = found.id;
END;
$$;

-- Its worker cannot register; nothing else claims without counting the attempt either.
CREATE OR REPLACE FUNCTION docyard.procrastinate_fetch_job_v2(
    target_queue_names character varying[],
    p_worker_id bigint
) RETURNS docyard.procrastinate_jobs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'These jobs are claimed by docyard''s workers, not by procrastinate''s fetch_job.'
        USING HINT = 'Start a worker with: docyard worker --app MODULE:REGISTRY '
            '(Registry.from_procrastinate(app) takes the tasks of an App over).';
END;
$$;

-- A worker may have promised a slower heartbeat than the caller thinks of, and one that still holds jobs is left
-- to the rescue: without its row the story of their attempts would be lost.
CREATE OR REPLACE FUNCTION docyard.procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision)
RETURNS TABLE (worker_id bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    DELETE FROM docyard.procrastinate_workers AS worker
    WHERE worker.last_heartbeat < docyard.clock() - make_interval(secs => seconds_since_heartbeat)
        AND docyard.worker_is_lost(worker.id)
        AND NOT EXISTS (
            SELECT FROM docyard.procrastinate_jobs AS job WHERE job.worker_id = worker.id AND job.status = 'doing'
        )
    RETURNING worker.id;
END;
$$;

-- procrastinate's event rows, written once per statement. With their owner's rights: whoever may change a job
-- need not be able to write events. On a table of somebody's own, with types of their own, these rights would be
-- theirs: so they look first where they are. Transition tables forbid one trigger for several events, and conditions.
CREATE FUNCTION docyard.record_events_of_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tg_relid <> 'docyard.procrastinate_jobs'::regclass THEN
        RAISE EXCEPTION 'This records events of docyard''s jobs, not of %.', tg_relid::regclass;
    END IF;
    INSERT INTO docyard.procrastinate_events (job_id, type, at)
    SELECT inserted.id, event.type::docyard.procrastinate_job_event_type, event.at
    FROM inserted
    CROSS JOIN LATERAL (VALUES
        (1, CASE WHEN inserted.scheduled_at IS NOT NULL THEN 'scheduled' END, inserted.scheduled_at),
        (2, 'deferred', now())
    ) AS event (place, type, at)
    WHERE inserted.status = 'todo' AND event.type IS NOT NULL
    ORDER BY inserted.id, event.place;
    RETURN NULL;
END;
$$;

CREATE FUNCTION docyard.record_events_of_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tg_relid <> 'docyard.procrastinate_jobs'::regclass THEN
        RAISE EXCEPTION 'This records events of docyard''s jobs, not of %.', tg_relid::regclass;
    END IF;
    INSERT INTO docyard.procrastinate_events (job_id, type, at)
    SELECT job.id, event.type::docyard.procrastinate_job_event_type, event.at
    FROM updated AS job
    JOIN before ON before.id = job.id
    CROSS JOIN LATERAL (VALUES
        (1, CASE WHEN job.abort_requested AND NOT before.abort_requested THEN 'abort_requested' END, now()),
        -- As procrastinate has it: at each change of a job that waits for a time.
        (2, CASE WHEN job.status = 'todo' AND job.scheduled_at IS NOT NULL THEN 'scheduled' END,
            job.scheduled_at),
        (3, CASE
            WHEN before.status = 'todo' THEN CASE job.status
                WHEN 'doing' THEN 'started'
                WHEN 'cancelled' THEN 'cancelled'
                WHEN 'failed' THEN 'cancelled'
                WHEN 'succeeded' THEN 'cancelled'
            END
            WHEN before.status = 'doing' THEN CASE job.status
                WHEN 'todo' THEN 'deferred_for_retry'
                WHEN 'failed' THEN 'failed'
                WHEN 'succeeded' THEN 'succeeded'
                WHEN 'aborted' THEN 'aborted'
            END
            -- procrastinate retries no cancelled job; docyard does.
            WHEN job.status = 'todo' AND before.status IN ('failed', 'cancelled', 'aborted') THEN 'retried'
        END, now())
    ) AS event (place, type, at)
    WHERE event.type IS NOT NULL
    ORDER BY job.id, event.place;
    RETURN NULL;
END;
$$;

REVOKE ALL ON FUNCTION docyard.record_events_of_insert(), docyard.record_events_of_update() FROM PUBLIC;

-- Begins or ends the recording. The triggers exist only while it is wanted: a trigger that is disabled still makes
-- every statement keep its rows for it.
CREATE FUNCTION docyard.record_events(wanted boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    IF wanted THEN
        CREATE OR REPLACE TRIGGER record_events_of_insert AFTER INSERT ON docyard.procrastinate_jobs
            REFERENCING NEW TABLE AS inserted
            FOR EACH STATEMENT EXECUTE FUNCTION docyard.record_events_of_insert();
        CREATE OR REPLACE TRIGGER record_events_of_update AFTER UPDATE ON docyard.procrastinate_jobs
            REFERENCING OLD TABLE AS before NEW TABLE AS updated
            FOR EACH STATEMENT EXECUTE FUNCTION docyard.record_events_of_update();
    ELSE
        DROP TRIGGER IF EXISTS record_events_of_insert ON docyard.procrastinate_jobs;
        DROP TRIGGER IF EXISTS record_events_of_update ON docyard.procrastinate_jobs;
    END IF;
END;
$$;
