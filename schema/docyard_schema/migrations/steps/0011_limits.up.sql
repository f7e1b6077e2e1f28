-- Claims that stay flat beside any backlog, and limits: how many at once, how many in a while, how many may wait.

ALTER TABLE docyard.procrastinate_jobs
    -- Whose job it is, a tenant's or a customer's: within a queue the partitions take turns, and limits per key count
    -- by it.
    ADD COLUMN partition_key text CHECK (octet_length(partition_key) BETWEEN 1 AND 1024),
    -- What it takes from a rate. NULL: one.
    ADD COLUMN weight double precision CHECK (weight > 0 AND weight < 'infinity'),
    -- Set by the claim that goes by limits, so that running jobs can be counted without an index of all of them.
    ADD COLUMN counted boolean,
    -- Set while the job is far behind in the line of its lock key (docyard_queue.lock_lines).
    ADD COLUMN parked boolean;

-- One index for each way to wait, by queue. Of an index of all waiting jobs each claim walked past those of paused
-- and limited queues and those of the future: 48 ms beside 300,000 (docs/design/fast-path.md).
DROP INDEX docyard.procrastinate_jobs_priority_idx_v1;
CREATE INDEX jobs_ready_idx ON docyard.procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND scheduled_at IS NULL AND partition_key IS NULL AND parked IS NULL;
CREATE INDEX jobs_parked_idx ON docyard.procrastinate_jobs (lock) WHERE status = 'todo' AND parked;
CREATE INDEX jobs_due_idx ON docyard.procrastinate_jobs (queue_name, priority DESC, scheduled_at, id)
    WHERE status = 'todo' AND scheduled_at IS NOT NULL AND partition_key IS NULL;
CREATE INDEX jobs_partition_idx ON docyard.procrastinate_jobs
    (queue_name, partition_key, priority DESC, (coalesce(scheduled_at, '-infinity'::timestamptz)), id)
    WHERE status = 'todo' AND partition_key IS NOT NULL;
CREATE INDEX jobs_counted_idx ON docyard.procrastinate_jobs (queue_name, partition_key)
    WHERE status = 'doing' AND counted;

ALTER TABLE docyard.queues
    ADD COLUMN concurrency integer CHECK (concurrency >= 0),
    ADD COLUMN key_concurrency integer CHECK (key_concurrency > 0),
    -- So much weight may begin in so many seconds.
    ADD COLUMN rate double precision CHECK (rate > 0),
    ADD COLUMN rate_seconds double precision CHECK (rate_seconds > 0),
    ADD COLUMN key_rate double precision CHECK (key_rate > 0),
    ADD COLUMN key_rate_seconds double precision CHECK (key_rate_seconds > 0),
    -- More waiting jobs than these, and an enqueue is refused.
    ADD COLUMN max_depth integer CHECK (max_depth > 0),
    ADD COLUMN limited boolean NOT NULL GENERATED ALWAYS AS (
        concurrency IS NOT NULL OR key_concurrency IS NOT NULL OR rate IS NOT NULL OR key_rate IS NOT NULL
    ) STORED,
    ADD CHECK ((rate IS NULL) = (rate_seconds IS NULL)),
    ADD CHECK ((key_rate IS NULL) = (key_rate_seconds IS NULL));

-- Token buckets: "amount" flows in over "window_seconds", and no more than that is ever in. A queue's rate is the
-- unit "weight" of its name; handlers have budgets of their own (docyard_queue.budgets).
CREATE TABLE docyard.budgets (
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 1200),
    unit text NOT NULL CHECK (octet_length(unit) BETWEEN 1 AND 40),
    amount double precision NOT NULL CHECK (amount > 0),
    window_seconds double precision NOT NULL CHECK (window_seconds > 0),
    -- What was left at that time. Below zero after a settlement that took more than was reserved.
    balance double precision NOT NULL,
    balanced_at timestamptz NOT NULL DEFAULT docyard.clock(),
    PRIMARY KEY (name, unit)
);

CREATE FUNCTION docyard.budget_left(
    balance double precision, balanced_at timestamptz, amount double precision, window_seconds double precision
) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE
RETURN least(amount, balance
    + amount * greatest(0, extract(epoch FROM docyard.clock() - balanced_at)::double precision) / window_seconds);

-- The name of a queue's budget, and of one of its keys: "queue embed", "key 5 embed tenant 7". The length keeps apart
-- what would read the same.
CREATE FUNCTION docyard.limit_name(queue text, partition_key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce('key ' || octet_length(queue) || ' ' || queue || ' ' || partition_key, 'queue ' || queue);

-- Nothing of this name begins before: a budget's, a queue's or a key's (docyard.limit_name).
CREATE TABLE docyard.cool_downs (
    name text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 1200),
    until timestamptz NOT NULL,
    reason text
);

-- The notices of step 0003, and before them the depth: in one trigger, for each costs every enqueue 30 microseconds.
CREATE OR REPLACE FUNCTION docyard.notify_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arrived record;
    full_queue record;
BEGIN
    IF EXISTS (SELECT FROM docyard.queues AS queue WHERE queue.max_depth IS NOT NULL)
        -- What docyard itself enqueues, a schedule's moment or a batch's callback, is worth more than a depth.
        AND current_setting('docyard.any_depth', true) IS DISTINCT FROM 'on'
    THEN
        SELECT queue.name, queue.max_depth INTO full_queue
        FROM docyard.queues AS queue
        WHERE queue.max_depth IS NOT NULL
            AND EXISTS (SELECT FROM inserted WHERE inserted.queue_name = queue.name AND inserted.status = 'todo')
            -- What these rows made of it included; of other transactions, what is committed.
            AND (
                SELECT count(*) FROM (
                    -- By the four indexes of what waits.
                    SELECT FROM docyard.procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.queue_name = queue.name
                        AND job.scheduled_at IS NULL AND job.partition_key IS NULL AND job.parked IS NULL
                    UNION ALL
                    SELECT FROM docyard.procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.queue_name = queue.name AND job.parked
                    UNION ALL
                    SELECT FROM docyard.procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.queue_name = queue.name
                        AND job.scheduled_at IS NOT NULL AND job.partition_key IS NULL
                    UNION ALL
                    SELECT FROM docyard.procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.queue_name = queue.name AND job.partition_key IS NOT NULL
                    LIMIT queue.max_depth::bigint + 1
                ) AS waiting
            ) > queue.max_depth
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'Queue % is full: it has % waiting jobs, and no more may wait.',
                full_queue.name, full_queue.max_depth
                USING ERRCODE = 'configuration_limit_exceeded',
                    HINT = 'Enqueue again later, start more workers, or raise it: docyard queues limit '
                        || full_queue.name || ' --depth N';
        END IF;
    END IF;
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

-- Adds a job that was checked, or gives the id of the one that holds its unique key. With the caller's rights:
-- docyard.enqueue and docyard_queue share it. unique_for NULL is scope's: "waiting" or "until_done".
CREATE FUNCTION docyard.insert_job(
    kind text, payload jsonb, queue text, priority integer, run_at timestamptz, max_attempts integer,
    timeout_seconds double precision, unique_key text, lock_key text, batch_id uuid, unique_scope text,
    unique_for interval, partition_key text, weight double precision
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waits boolean := unique_scope = 'waiting' AND unique_for IS NULL;
    found_id bigint;
BEGIN
    IF unique_key IS NULL THEN
        INSERT INTO docyard.procrastinate_jobs
            (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds, lock, batch_id,
                partition_key, weight)
        VALUES (insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority, insert_job.run_at,
            insert_job.max_attempts, insert_job.timeout_seconds, insert_job.lock_key, insert_job.batch_id,
            insert_job.partition_key, insert_job.weight)
        RETURNING id INTO found_id;
        RETURN found_id;
    END IF;
    -- A holder may begin or end between our look and our write; then we look again.
    FOR look IN 1..10 LOOP
        IF waits THEN
            INSERT INTO docyard.procrastinate_jobs
                (task_name, args, queue_name, priority, scheduled_at, max_attempts, timeout_seconds,
                    queueing_lock, lock, batch_id, partition_key, weight)
            VALUES (insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority,
                insert_job.run_at, insert_job.max_attempts, insert_job.timeout_seconds, insert_job.unique_key,
                insert_job.lock_key, insert_job.batch_id, insert_job.partition_key, insert_job.weight)
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
                        batch_id, partition_key, weight)
                SELECT taken.job_id, insert_job.kind, insert_job.payload, insert_job.queue, insert_job.priority,
                    insert_job.run_at, insert_job.max_attempts, insert_job.timeout_seconds,
                    insert_job.lock_key, insert_job.batch_id, insert_job.partition_key, insert_job.weight
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
    uuid, text, interval);

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
    unique_for interval DEFAULT NULL,
    partition_key text DEFAULT NULL,
    weight double precision DEFAULT NULL
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
    ELSIF octet_length(partition_key) NOT BETWEEN 1 AND 1024 THEN
        complaint := format('A job''s partition_key has 1 to 1,024 bytes, got %s.', octet_length(partition_key));
        advice := 'Hash what is longer; NULL is none.';
    ELSIF NOT (weight > 0 AND weight < 'infinity') THEN
        complaint := format('A job''s weight is a number above zero, got %s.', weight);
        advice := 'NULL is one.';
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
        extract(epoch FROM timeout)::double precision, unique_key, lock_key, batch_id, unique_scope, unique_for,
        partition_key, weight);
END;
$$;

-- Whoever could call the function of before can call this one. PUBLIC cannot.
REVOKE ALL ON FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval, text, double precision) FROM PUBLIC;
DO $$
DECLARE
    role record;
BEGIN
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text AS name
        FROM pg_catalog.pg_proc AS function
        CROSS JOIN LATERAL pg_catalog.aclexplode(function.proacl) AS granted
        WHERE function.oid = 'docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval,
                text, text, uuid, text, interval)'::regprocedure
            AND granted.grantee NOT IN (0, function.proowner)
    LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval, text, double precision) TO ' || role.name;
    END LOOP;
END;
$$;
DROP FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text,
    uuid, text, interval);
