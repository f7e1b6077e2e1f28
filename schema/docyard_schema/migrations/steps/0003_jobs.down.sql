DROP FUNCTION docyard.job_state(docyard.procrastinate_job_status, integer, timestamptz);
DROP TRIGGER notify_jobs_inserted ON docyard.procrastinate_jobs;
DROP FUNCTION docyard.notify_jobs_inserted();
DROP TABLE docyard.batches, docyard.queues, docyard.job_attempts;
UPDATE docyard.procrastinate_jobs AS job SET worker_id = NULL
WHERE worker_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM docyard.procrastinate_workers AS worker WHERE worker.id = job.worker_id);
ALTER TABLE docyard.procrastinate_jobs ADD CONSTRAINT procrastinate_jobs_worker_id_fkey
    FOREIGN KEY (worker_id) REFERENCES docyard.procrastinate_workers (id) ON DELETE SET NULL;
ALTER TABLE docyard.procrastinate_workers
    DROP COLUMN host, DROP COLUMN pid, DROP COLUMN process_scope, DROP COLUMN session_name, DROP COLUMN queues, DROP COLUMN started_at,
    DROP COLUMN heartbeat_seconds, DROP COLUMN state;
DROP INDEX docyard.jobs_lock_idx, docyard.jobs_batch_idx, docyard.jobs_failed_idx;
DROP INDEX docyard.procrastinate_jobs_lock_idx_v1, docyard.procrastinate_jobs_queueing_lock_idx_v1;
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON docyard.procrastinate_jobs (lock) WHERE status = 'doing';
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON docyard.procrastinate_jobs (queueing_lock)
    WHERE status = 'todo';
CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON docyard.procrastinate_jobs (queue_name);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON docyard.procrastinate_jobs (id, lock)
    WHERE status IN ('todo', 'doing');
ALTER TABLE docyard.procrastinate_jobs
    DROP COLUMN lease, DROP COLUMN max_attempts, DROP COLUMN timeout_seconds, DROP COLUMN batch_id,
    DROP COLUMN created_at, DROP COLUMN started_at, DROP COLUMN finished_at, DROP COLUMN error_code,
    DROP COLUMN error_message, DROP COLUMN result, DROP COLUMN progress;

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON docyard.procrastinate_jobs
    FOR EACH ROW WHEN (new.status = 'todo')
    EXECUTE FUNCTION docyard.procrastinate_notify_queue_job_inserted_v1();
CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON docyard.procrastinate_jobs
    FOR EACH ROW EXECUTE FUNCTION docyard.procrastinate_trigger_function_status_events_update_v1();
CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON docyard.procrastinate_jobs
    FOR EACH ROW WHEN (new.status = 'todo')
    EXECUTE FUNCTION docyard.procrastinate_trigger_function_status_events_insert_v1();
CREATE TRIGGER procrastinate_trigger_scheduled_events_v1
    AFTER UPDATE OR INSERT ON docyard.procrastinate_jobs
    FOR EACH ROW WHEN (new.scheduled_at IS NOT NULL AND new.status = 'todo')
    EXECUTE FUNCTION docyard.procrastinate_trigger_function_scheduled_events_v1();
CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1
    AFTER UPDATE OF abort_requested ON docyard.procrastinate_jobs
    FOR EACH ROW WHEN (new.abort_requested = true)
    EXECUTE FUNCTION docyard.procrastinate_trigger_abort_requested_events_procedure_v1();

-- As procrastinate has it.
CREATE OR REPLACE FUNCTION docyard.procrastinate_register_worker_v1()
    RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;
CREATE OR REPLACE FUNCTION docyard.procrastinate_notify_queue_abort_job_v1()
RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'docyard.procrastinate_register_worker_v1()'::regprocedure,
        'docyard.procrastinate_notify_queue_abort_job_v1()'::regprocedure
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', function,
            (SELECT relnamespace::regnamespace::text FROM pg_class
             WHERE oid = 'docyard.procrastinate_jobs'::regclass));
    END LOOP;
END;
$$;
