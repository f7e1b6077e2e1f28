-- name: park
-- A claim asks of each job with a lock key whether it is first in line, so ten thousand of one key cost every claim
-- 50 ms. Those far behind are parked: out of the indexes that claims read. A crowd shows at the head of its queue.
UPDATE docyard.procrastinate_jobs AS job SET parked = true
WHERE job.id = ANY (ARRAY (
    WITH RECURSIVE ready (queue) AS (
        (SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL
            AND waiting.parked IS NULL
        ORDER BY waiting.queue_name LIMIT 1)
        UNION ALL
        SELECT next.queue_name FROM ready CROSS JOIN LATERAL (
            SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL
                AND waiting.parked IS NULL AND waiting.queue_name > ready.queue
            ORDER BY waiting.queue_name LIMIT 1
        ) AS next
    ), crowd AS (
        SELECT head.lock
        FROM ready CROSS JOIN LATERAL (
            SELECT waiting.lock FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL
                AND waiting.parked IS NULL AND waiting.queue_name = ready.queue
            ORDER BY waiting.priority DESC, waiting.id LIMIT 2000
        ) AS head
        WHERE head.lock IS NOT NULL
        GROUP BY head.lock
        HAVING count(*) > %(front)s
    ), behind AS (
        SELECT line.id FROM crowd CROSS JOIN LATERAL (
            SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.lock = crowd.lock AND waiting.status = 'todo' AND waiting.parked IS NULL
                AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL
            ORDER BY waiting.priority DESC, waiting.id
            OFFSET %(front)s
            LIMIT 5000
        ) AS line
    )
    SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.id IN (SELECT behind.id FROM behind) AND waiting.status = 'todo'
    ORDER BY waiting.id
    FOR UPDATE SKIP LOCKED
));

-- name: unpark
-- The first of each line are never parked for long: when half of them have gone, others come to the front. Without a
-- parked job this is one index probe.
UPDATE docyard.procrastinate_jobs AS job SET parked = NULL
WHERE job.id = ANY (ARRAY (
    WITH RECURSIVE line (lock) AS (
        (SELECT waiting.lock FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.parked
        ORDER BY waiting.lock LIMIT 1)
        UNION ALL
        SELECT next.lock FROM line CROSS JOIN LATERAL (
            SELECT waiting.lock FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.parked AND waiting.lock > line.lock
            ORDER BY waiting.lock LIMIT 1
        ) AS next
    ), front AS (
        SELECT unnest(place.parked) AS id
        FROM line CROSS JOIN LATERAL (
            SELECT array_agg(first.id) FILTER (WHERE first.parked) AS parked
            FROM (
                SELECT waiting.id, waiting.parked, row_number() OVER (
                    ORDER BY waiting.priority DESC, waiting.id) AS place
                FROM docyard.procrastinate_jobs AS waiting
                WHERE waiting.lock = line.lock AND waiting.status = 'todo'
                    AND (waiting.scheduled_at IS NULL OR waiting.scheduled_at <= docyard.clock()
                        OR waiting.lease > 0)
                ORDER BY waiting.priority DESC, waiting.id
                LIMIT %(front)s
            ) AS first
            HAVING bool_or(first.parked AND first.place <= %(front)s / 2)
        ) AS place
    )
    SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.id IN (SELECT front.id FROM front) AND waiting.status = 'todo'
    ORDER BY waiting.id
    FOR UPDATE SKIP LOCKED
));
