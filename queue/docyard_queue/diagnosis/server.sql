-- name: versions
SELECT current_setting('server_version'),
    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector');

-- name: clock
SELECT extract(epoch FROM clock_timestamp())::double precision;

-- name: backend
SELECT pg_backend_pid();

-- name: sees_all
-- Without this right pg_stat_activity tells of other users' sessions only that they exist.
SELECT current_user::text, pg_has_role('pg_read_all_stats', 'USAGE');

-- name: long_transactions
-- Whatever died since the oldest of these began stays in the tables, and every claim steps over it. Of a session
-- that holds a snapshot without a transaction's start (a walsender, say) nothing is known here.
SELECT activity.pid, activity.application_name, activity.usename, activity.state,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS seconds,
    extract(epoch FROM clock_timestamp() - activity.query_start)::double precision AS query_seconds,
    left(regexp_replace(activity.query, '\s+', ' ', 'g'), 60) AS query
FROM pg_stat_activity AS activity
WHERE activity.datname = current_database() AND activity.pid <> pg_backend_pid()
    AND activity.backend_type = 'client backend'
    AND activity.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY activity.xact_start
LIMIT 10;

-- name: prepared_transactions
-- These belong to no session and outlast a restart.
SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::double precision AS seconds
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY prepared
LIMIT 10;

-- name: replication_slots
-- A slot that nobody reads keeps the log for its reader, and with an xmin dead rows too.
SELECT slot_name, coalesce(xmin, catalog_xmin) IS NOT NULL AS holds_rows,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END::bigint AS kept_bytes
FROM pg_replication_slots
WHERE NOT active AND NOT temporary
ORDER BY slot_name;

-- name: connections
SELECT count(*) FILTER (WHERE activity.backend_type = 'client backend'),
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
FROM pg_stat_activity AS activity;

-- name: notify_queue
SELECT pg_notification_queue_usage();

-- name: settings
-- Those that somebody turned away from what is safe.
SELECT name, setting FROM pg_settings
WHERE setting = 'off'
    AND name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts', 'track_activities');
