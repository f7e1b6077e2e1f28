-- Adds a job that was checked, or gives the id of the one that holds its unique key. With the caller's rights:
-- docyard.enqueue and docyard_queue share it. unique_for NULL is scope's: "waiting" or "until_done".
CREATE FUNCTION docyard.insert_job(
    kind text, payload jsonb, queue text, priority integer, run_at timestamptz, max_attempts integer,
    timeout_seconds double precision, unique_key text, lock_key text, batch_id uuid, unique_scope text,
    unique_for interval
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waits boolean := unique_scope = 'waiting' AND unique_for IS NULL;
    found_id bigint;
BEGIN
    IF unique_key IS NULL THEN
        INSERT INTO docyard.procrastinate_jobs
            (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock, batch_id)
        VALUES (insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority, insert_job.run_at,
            insert_job.max_attempts, insert_job.timeout_seconds, insert_job.lock_key, insert_job.batch_id)
        RETURNING id INTO found_id;
        RETURN found_id;
    END IF;
    -- A holder may begin or end between our look and our write; then we look again.
    FOR look IN 1..10 LOOP
        IF waits THEN
            INSERT INTO docyard.procrastinate_jobs
                (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds,
                    queueing_lock, lock, batch_id)
            VALUES (insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority,
                insert_job.run_at, insert_job.max_attempts, insert_job.timeout_seconds, insert_job.unique_key,
                insert_job.lock_key, insert_job.batch_id)
            ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO NOTHING
            RETURNING id INTO found_id;
            IF found_id IS NULL THEN
                SELECT job.id INTO found_id FROM docyard.procrastinate_jobs AS job
                WHERE job.queueing_lock = insert_job.unique_key AND job.status = 'todo';
            END IF;
        ELSE
            -- Without a lock first: most who ask find a holder, and must not wait for each other.
            SELECT held.job_id INTO found_id
            FROM docyard.unique_keys AS held
            JOIN docyard.procrastinate_jobs AS job ON job.id = held.job_id
            WHERE held.key = insert_job.unique_key
                AND CASE WHEN held.expires_at IS NULL THEN job.status IN ('todo', 'doing')
                    ELSE held.expires_at > docyard.clock() END;
            IF found_id IS NULL THEN
                -- The key's row is locked before the condition is judged. A holder that this statement cannot see
                -- is newer than it, and holds: only one that is seen to have ended gives way.
                WITH taken AS (
                    INSERT INTO docyard.unique_keys AS held (key, job_id, expires_at)
                    VALUES (insert_job.unique_key, nextval('docyard.procrastinate_jobs_id_seq'),
                        docyard.clock() + insert_job.unique_for)
                    ON CONFLICT (key) DO UPDATE
                    SET job_id = excluded.job_id, expires_at = excluded.expires_at
                    WHERE CASE WHEN held.expires_at IS NULL THEN EXISTS (
                            SELECT FROM docyard.procrastinate_jobs AS job
                            WHERE job.id = held.job_id AND job.status NOT IN ('todo', 'doing')
                        ) ELSE held.expires_at <= docyard.clock() END
                    RETURNING held.job_id
                )
                INSERT INTO docyard.procrastinate_jobs
                    (id, task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock,
                        batch_id)
                SELECT taken.job_id, insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority,
                    insert_job.run_at, insert_job.max_attempts, insert_job.timeout_seconds,
                    insert_job.lock_key, insert_job.batch_id
                FROM taken
                RETURNING id INTO found_id;
            END IF;
        END IF;
        IF found_id IS NOT NULL THEN
            RETURN found_id;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'The unique key % changed hands 10 times while a job was enqueued under it.',
        quote_literal(unique_key)
        USING ERRCODE = 'serialization_failure',
            HINT = 'Try again; if it stays so, jobs under this key start and end faster than they are enqueued.';
END;
$$;
DROP FUNCTION docyard.insert_job(text, jsonb, text, integer, timestamptz, integer, double precision, text, text,
    uuid, text, interval, text,
    double precision);

-- Adds one job in the caller's transaction and returns its id, or that of the job which holds its unique key.
-- With its owner's rights: who may call it need not be able to read or write a table. NULL is the default.
CREATE FUNCTION docyard.enqueue(
    kind text,
    payload jsonb DEFAULT '{}',
    queue text DEFAULT 'default',
    priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL,
    unique_key text DEFAULT NULL,
    lock_key text DEFAULT NULL,
    batch_id uuid DEFAULT NULL,
    unique_scope text DEFAULT 'waiting',
    unique_for interval DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    complaint text;
    advice text := 'Correct the argument; docs/design/queue.md lists what a job can have.';
BEGIN
    payload := coalesce(payload, '{}');
    queue := coalesce(queue, 'default');
    priority := coalesce(priority, 0);
    unique_scope := coalesce(unique_scope, 'waiting');
    IF kind IS NULL OR kind = '' THEN
        complaint := 'A job''s kind is text, not empty.';
        advice := 'Name the handler that is to run it, for example: SELECT enqueue(''charge'', ''{"order": 7}'')';
    ELSIF length(kind) > 128 THEN
        complaint := format('A job''s kind has 1 to 128 characters, got %s.', length(kind));
    ELSIF octet_length(queue) NOT BETWEEN 1 AND 40 THEN
        complaint := format('A queue''s name has 1 to 40 bytes, got %s.', octet_length(queue));
        advice := 'It is part of a NOTIFY channel''s name, which Postgres cuts at 63 bytes.';
    ELSIF octet_length(unique_key) NOT BETWEEN 1 AND 1024 THEN
        complaint := format('A job''s unique_key has 1 to 1,024 bytes, got %s.', octet_length(unique_key));
        advice := 'Hash what is longer; NULL is none.';
    ELSIF octet_length(lock_key) NOT BETWEEN 1 AND 1024 THEN
        complaint := format('A job''s lock_key has 1 to 1,024 bytes, got %s.', octet_length(lock_key));
        advice := 'Hash what is longer; NULL is none.';
    ELSIF jsonb_typeof(payload) <> 'object' THEN
        complaint := format('The payload of a %L job is a JSON object, got %s.', kind, jsonb_typeof(payload));
        advice := 'Put it under a name, for example: {"value": …}';
    ELSIF docyard.payload_bytes(payload) > 1024 * 1024 THEN
        complaint := format('The payload of a %L job has %s bytes; the most is 1,048,576.', kind,
            docyard.payload_bytes(payload));
        advice := 'Store the data, and put its address into the payload.';
    ELSIF max_attempts < 1 THEN
        complaint := format('max_attempts is at least 1, got %s.', max_attempts);
        advice := 'NULL leaves it to the handler.';
    ELSIF extract(epoch FROM timeout) <= 0 THEN
        complaint := format('timeout is longer than zero, got %s.', timeout);
        advice := 'NULL leaves it to the handler.';
    ELSIF NOT run_at BETWEEN '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00' THEN
        -- What Python's datetime cannot hold would break whoever lists jobs.
        complaint := format('run_at is in the years 1 to 9999, got %s.', run_at);
        advice := 'NULL is now.';
    ELSIF unique_scope NOT IN ('waiting', 'until_done') THEN
        complaint := format('unique_scope is ''waiting'' or ''until_done'', got %L.', unique_scope);
        advice := 'For a period give unique_for => interval ''1 hour''.';
    ELSIF unique_key IS NULL AND (unique_scope <> 'waiting' OR unique_for IS NOT NULL) THEN
        complaint := 'unique_scope and unique_for need a unique_key.';
        advice := 'Give a unique_key, or leave them out.';
    ELSIF unique_for IS NOT NULL AND unique_scope <> 'waiting' THEN
        complaint := 'A unique key holds either until_done or for a period, not both.';
        advice := 'Leave out unique_scope or unique_for.';
    ELSIF NOT unique_for BETWEEN interval '1 microsecond' AND interval '3650 days' THEN
        complaint := format('unique_for is longer than zero and at most 3,650 days, got %s.', unique_for);
        advice := 'To keep a key while its job lives give unique_scope => ''until_done''.';
    END IF;
    IF complaint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = complaint, HINT = advice;
    END IF;
    RETURN docyard.insert_job(kind, payload, queue, priority, run_at, max_attempts,
        extract(epoch FROM timeout)::double precision, unique_key, lock_key, batch_id, unique_scope, unique_for);
END;
$$;

-- Whoever could call the function of before can call this one. PUBLIC cannot.
REVOKE ALL ON FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval) FROM PUBLIC;
DO $$
DECLARE
    role record;
BEGIN
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text AS name
        FROM pg_catalog.pg_proc AS function
        CROSS JOIN LATERAL pg_catalog.aclexplode(function.proacl) AS granted
        WHERE function.oid = 'docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval,
                text, text, uuid, text, interval, text, double precision)'::regprocedure
            AND granted.grantee NOT IN (0, function.proowner)
    LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval) TO ' || role.name;
    END LOOP;
END;
$$;
DROP FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval, text, double precision);

CREATE OR REPLACE FUNCTION docyard.notify_jobs_inserted() RETURNS trigger
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
DROP TABLE docyard.cool_downs;
DROP FUNCTION docyard.limit_name(text, text);
DROP TABLE docyard.budgets;
DROP FUNCTION docyard.budget_left(double precision, timestamptz, double precision, double precision);
ALTER TABLE docyard.queues
    DROP COLUMN limited, DROP COLUMN concurrency, DROP COLUMN key_concurrency, DROP COLUMN rate,
    DROP COLUMN rate_seconds, DROP COLUMN key_rate, DROP COLUMN key_rate_seconds, DROP COLUMN max_depth;
DROP INDEX docyard.jobs_ready_idx, docyard.jobs_due_idx, docyard.jobs_partition_idx, docyard.jobs_counted_idx,
    docyard.jobs_parked_idx;
ALTER TABLE docyard.procrastinate_jobs DROP COLUMN partition_key, DROP COLUMN weight, DROP COLUMN counted,
    DROP COLUMN parked;
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON docyard.procrastinate_jobs (priority DESC, id)
    WHERE status = 'todo';
