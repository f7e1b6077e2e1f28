-- name: last_fired
-- The database's clock, and of each schedule the last moment that was dealt with; NULL before its first.
SELECT docyard.clock(), ARRAY (
    SELECT (
        SELECT max(dealt.defer_timestamp) FROM docyard.procrastinate_periodic_defers AS dealt
        WHERE dealt.task_name = wanted.name AND dealt.periodic_id = wanted.periodic_id
    )
    FROM unnest(%(names)s::text[], %(periodic_ids)s::text[]) WITH ORDINALITY
        AS wanted (name, periodic_id, place)
    ORDER BY wanted.place
);

-- name: take
-- One row per schedule and moment, whoever comes first: a second taker waits for the first to commit and then
-- has none. Nobody takes a moment earlier than one that was dealt with: the rows of those are pruned some day.
INSERT INTO docyard.procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
SELECT %(name)s::text, %(periodic_id)s::text, %(moment)s::bigint
WHERE NOT EXISTS (
    SELECT FROM docyard.procrastinate_periodic_defers AS dealt
    WHERE dealt.task_name = %(name)s::text AND dealt.periodic_id = %(periodic_id)s::text
        AND dealt.defer_timestamp > %(moment)s::bigint
)
ON CONFLICT (task_name, periodic_id, defer_timestamp) DO NOTHING
RETURNING id;

-- name: link
UPDATE docyard.procrastinate_periodic_defers SET job_id = %(job)s WHERE id = %(id)s;

-- name: prune
-- What was dealt with a day before this moment can have no second taker any more.
DELETE FROM docyard.procrastinate_periodic_defers
WHERE id = ANY (ARRAY (
    SELECT old.id FROM docyard.procrastinate_periodic_defers AS old
    WHERE old.task_name = %(name)s::text AND old.periodic_id = %(periodic_id)s::text
        AND old.defer_timestamp < %(moment)s::bigint - 86400
    ORDER BY old.id
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
));

-- name: clock
SELECT docyard.clock();

-- name: list_dealt
-- Of each schedule the last moment that was dealt with, and the job of the last one that became one.
SELECT dealt.task_name, dealt.periodic_id, to_timestamp(max(dealt.defer_timestamp)),
    (array_agg(dealt.job_id ORDER BY dealt.defer_timestamp DESC) FILTER (WHERE dealt.job_id IS NOT NULL))[1]
FROM docyard.procrastinate_periodic_defers AS dealt
GROUP BY dealt.task_name, dealt.periodic_id;
