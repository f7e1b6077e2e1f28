-- Who runs alone after a crash: when a worker process is lost with several jobs, nobody knows the guilty one.

ALTER TABLE docyard.procrastinate_jobs
    -- It ran beside others in a process that ended: until it ends, or a person retries it, it runs alone.
    ADD COLUMN alone boolean NOT NULL DEFAULT false,
    -- The lease under which it last began to run alone. One that only waited for its turn is not to blame for the
    -- end of the process. A lease and no flag, so that nothing has to take it back. NULL: never.
    ADD COLUMN began_alone bigint;

-- Finds, for a job of a lost worker, others of that worker that an earlier rescue took. Few attempts end so.
CREATE INDEX job_attempts_lost_idx ON docyard.job_attempts (worker_id, finished_at)
    WHERE outcome IN ('crashed', 'released');
