-- name: event_triggers
-- By their names: one that was changed by hand is drift, and not "off".
SELECT FROM pg_catalog.pg_trigger AS trigger
JOIN pg_catalog.pg_class AS jobs ON jobs.oid = trigger.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = jobs.relnamespace
WHERE n.nspname = %(schema)s AND jobs.relname = 'procrastinate_jobs'
    AND trigger.tgname IN ('record_events_of_insert', 'record_events_of_update')
LIMIT 1;

-- name: record_events
SELECT docyard.record_events(%(wanted)s);

-- name: can_record_events
SELECT to_regprocedure(quote_ident(%(schema)s::text) || '.record_events(boolean)') IS NOT NULL;
