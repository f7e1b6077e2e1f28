-- name: without_triggers
-- Rows are made as they would be left behind; nobody has to be told of them.
SET session_replication_role = replica;

-- name: workers
INSERT INTO docyard.procrastinate_workers (last_heartbeat, host, pid, queues, kinds, heartbeat_seconds)
SELECT now() + interval '1 hour', 'host ' || number, number, NULL, ARRAY['a', 'b'], 5
FROM generate_series(1, 20) AS number;

-- name: batches
-- One of many jobs among many of few.
INSERT INTO docyard.batches (id, label, created_at)
SELECT uuid_in(md5('batch ' || number)::cstring), 'batch ' || number, now() - interval '1 day'
FROM generate_series(0, 1000) AS number;

-- name: finished_jobs
-- Ended one after the other over the last 24 hours, in the order of their ids: the busiest day that so many rows
-- can have had. Of a hundred one is dead and one cancelled; the first belong to batches.
INSERT INTO docyard.procrastinate_jobs
    (queue_name, task_name, args, status, attempts, lease, max_attempts, worker_id, batch_id, created_at, started_at,
        finished_at, error_code, error_message)
SELECT 'queue ' || number %% 5, 'kind ' || number %% 7, json_build_object('number', number)::jsonb,
    CASE WHEN number %% 100 = 0 THEN 'failed' WHEN number %% 100 = 1 THEN 'cancelled' ELSE 'succeeded' END
        ::docyard.procrastinate_job_status,
    1, 1, 3, 1 + number %% 20,
    CASE WHEN number <= 100000 THEN uuid_in(md5('batch 0')::cstring)
        WHEN number <= 200000 THEN uuid_in(md5('batch ' || 1 + number / 100 %% 1000)::cstring) END,
    ended.at - interval '1 second' * (1 + random()), ended.at - interval '1 second' * random(), ended.at,
    CASE WHEN number %% 100 = 0 THEN 'exception' END, CASE WHEN number %% 100 = 0 THEN 'it did not work' END
FROM generate_series(1, %(finished)s) AS number
CROSS JOIN LATERAL (
    SELECT now() - interval '24 hours' * (1 - number / %(finished)s::double precision) AS at
) AS ended;

-- name: attempts
INSERT INTO docyard.job_attempts
    (job_id, lease, attempt, worker_id, started_at, finished_at, outcome, error_class, error_message)
SELECT id, 1, 1, worker_id, started_at, finished_at, 'failed', 'RuntimeError', error_message
FROM docyard.procrastinate_jobs WHERE status = 'failed';

-- name: waiting_jobs
-- Most can run now; a fifth is for later, a twentieth failed once.
INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, args, attempts, lease, scheduled_at, created_at)
SELECT 'queue ' || number %% 5, 'kind ' || number %% 7, json_build_object('number', number)::jsonb,
    CASE WHEN number %% 20 = 1 THEN 1 ELSE 0 END, CASE WHEN number %% 20 = 1 THEN 1 ELSE 0 END,
    CASE WHEN number %% 20 < 5 THEN now() + interval '1 day' * random() END, now()
FROM generate_series(1, %(waiting)s) AS number;

-- name: running_jobs
INSERT INTO docyard.procrastinate_jobs
    (queue_name, task_name, args, status, attempts, lease, worker_id, started_at)
SELECT 'queue ' || number %% 5, 'kind ' || number %% 7, '{}', 'doing', 1, 1, 1 + number %% 20, now()
FROM generate_series(1, %(running)s) AS number;

-- name: unique_keys
-- Some of those that wait hold a key until they are done.
INSERT INTO docyard.unique_keys (key, job_id)
SELECT 'key ' || id, id FROM docyard.procrastinate_jobs WHERE status = 'todo' AND id %% 10 = 0;
