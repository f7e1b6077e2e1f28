-- Returns a row of the jobs table, which cannot go before it.
DROP FUNCTION docyard.procrastinate_fetch_job_v2(character varying[], bigint);
DROP TABLE docyard.procrastinate_events, docyard.procrastinate_periodic_defers,
    docyard.procrastinate_jobs, docyard.procrastinate_workers;
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT routine.oid::regprocedure
        FROM pg_proc AS routine
        JOIN pg_type AS status ON status.oid = 'docyard.procrastinate_job_status'::regtype
        WHERE routine.pronamespace = status.typnamespace AND routine.proname LIKE 'procrastinate\_%'
    LOOP
        EXECUTE format('DROP FUNCTION %s', function);
    END LOOP;
END;
$$;
DROP TYPE docyard.procrastinate_job_to_defer_v1;
DROP TYPE docyard.procrastinate_job_event_type;
DROP TYPE docyard.procrastinate_job_status;
