-- name: limited_queues
-- The queues whose jobs go by the limited claim, and in which some wait: those with limits, and those in which jobs
-- have partitions. From name to name: as many index probes as there are such queues.
WITH RECURSIVE partitioned (queue) AS (
    (SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.status = 'todo' AND waiting.partition_key IS NOT NULL
    ORDER BY waiting.queue_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name FROM partitioned CROSS JOIN LATERAL (
        SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.partition_key IS NOT NULL
            AND waiting.queue_name > partitioned.queue
        ORDER BY waiting.queue_name LIMIT 1
    ) AS next
), governed AS (
    SELECT partitioned.queue FROM partitioned
    UNION
    SELECT queue.name FROM docyard.queues AS queue
    WHERE queue.limited AND coalesce((
        -- Ordered, for of any row the planner expects that it stands at the beginning of the table.
        SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL
            AND waiting.parked IS NULL AND waiting.queue_name = queue.name
        ORDER BY waiting.priority DESC, waiting.id LIMIT 1
    ), (
        SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NOT NULL AND waiting.partition_key IS NULL
            AND waiting.queue_name = queue.name
        ORDER BY waiting.priority DESC, waiting.scheduled_at, waiting.id LIMIT 1
    )) IS NOT NULL
)
SELECT governed.queue
FROM governed
LEFT JOIN docyard.queues AS queue ON queue.name = governed.queue
WHERE queue.paused IS NOT TRUE
    AND (%(queues)s::text[] IS NULL OR governed.queue = ANY (%(queues)s::text[]))
    AND NOT EXISTS (
        SELECT FROM docyard.cool_downs AS pause
        WHERE pause.name = docyard.limit_name(governed.queue, NULL) AND pause.until > docyard.clock()
    )
ORDER BY governed.queue;

-- name: know_queue
-- The row that claimers lock one after the other; a queue with partitions and no settings has none yet.
INSERT INTO docyard.queues (name) VALUES (%(queue)s) ON CONFLICT (name) DO NOTHING;

-- name: lock_queue
-- Who holds this row counts and claims; another claimer leaves the queue to it. The count comes in a statement of its
-- own, for a snapshot that begins after the lock was had: in one statement two claimers count the same jobs.
SELECT queue.rate, queue.rate_seconds, queue.key_rate, queue.key_rate_seconds
FROM docyard.queues AS queue
WHERE queue.name = %(queue)s AND NOT queue.paused
FOR UPDATE SKIP LOCKED;

-- name: spend
-- What the claim takes from the rates of the queue and of its keys, in the order of their names.
INSERT INTO docyard.budgets AS budget (name, unit, amount, window_seconds, balance, balanced_at)
SELECT docyard.limit_name(%(queue)s, spent.key), 'weight', spent.amount, spent.window_seconds,
    spent.amount - spent.weight, docyard.clock()
FROM unnest(%(spent_keys)s::text[], %(weights)s::double precision[], %(amounts)s::double precision[],
    %(windows)s::double precision[]) AS spent (key, weight, amount, window_seconds)
ORDER BY 1
ON CONFLICT (name, unit) DO UPDATE
SET amount = excluded.amount, window_seconds = excluded.window_seconds, balanced_at = excluded.balanced_at,
    balance = docyard.budget_left(budget.balance, budget.balanced_at, excluded.amount, excluded.window_seconds)
        - (excluded.amount - excluded.balance);

-- name: next_due
-- Seconds until a job's time comes or a cool-down ends, where that is what jobs wait for; NULL: neither.
WITH RECURSIVE due (queue, priority) AS (
    (SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NOT NULL AND waiting.partition_key IS NULL
    ORDER BY waiting.queue_name, waiting.priority DESC LIMIT 1)
    UNION ALL
    SELECT next.queue_name, next.priority FROM due CROSS JOIN LATERAL (
        SELECT found.* FROM (
            SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NOT NULL AND waiting.partition_key IS NULL
                AND waiting.queue_name = due.queue AND waiting.priority < due.priority
            ORDER BY waiting.priority DESC LIMIT 1
        ) AS found
        UNION ALL
        SELECT found.* FROM (
            SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.scheduled_at IS NOT NULL AND waiting.partition_key IS NULL
                AND waiting.queue_name > due.queue
            ORDER BY waiting.queue_name, waiting.priority DESC LIMIT 1
        ) AS found
        LIMIT 1
    ) AS next
)
SELECT extract(epoch FROM min(moment.time) - docyard.clock())::double precision
FROM (
    SELECT head.scheduled_at AS time
    FROM due CROSS JOIN LATERAL (
        SELECT waiting.scheduled_at FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.scheduled_at > docyard.clock() AND waiting.partition_key IS NULL
            AND waiting.queue_name = due.queue AND waiting.priority = due.priority
        ORDER BY waiting.scheduled_at LIMIT 1
    ) AS head
    WHERE %(queues)s::text[] IS NULL OR due.queue = ANY (%(queues)s::text[])
    UNION ALL
    SELECT pause.until FROM docyard.cool_downs AS pause WHERE pause.until > docyard.clock()
) AS moment;
