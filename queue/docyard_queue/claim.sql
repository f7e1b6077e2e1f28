-- fragment: can_run
-- A kind that this worker does not know is left for one that does (a rolling deploy).
waiting.task_name = ANY ((SELECT %(kinds)s::text[])::text[])
AND (waiting.batch_id IS NULL OR waiting.batch_id <> ALL (ARRAY (SELECT id FROM docyard.batches WHERE paused)))
-- "lock IS NULL OR" stands first, so that jobs without a key never ask. Whoever is first in line, by an ordered
-- subquery: of a plain NOT EXISTS the planner expects that any row will do, and reads the table when the key is common.
-- One that began keeps its place while it waits to go on (a snooze gives the attempt back, never the lease); a future
-- one that never ran has none.
AND (waiting.lock IS NULL OR waiting.id = (
    SELECT first.id FROM docyard.procrastinate_jobs AS first
    WHERE first.lock = waiting.lock AND first.status = 'todo'
        AND (first.scheduled_at IS NULL OR first.scheduled_at <= docyard.clock() OR first.lease > 0)
    ORDER BY first.priority DESC, first.id
    LIMIT 1
) AND NOT EXISTS (
    SELECT FROM docyard.procrastinate_jobs AS other WHERE other.lock = waiting.lock AND other.status = 'doing'
))

-- fragment: begun
-- What a claim writes. A procrastinate producer names no limit: the handler's is written down, for whoever
-- rescues the job.
status = 'doing',
attempts = job.attempts + 1,
lease = job.lease + 1,
worker_id = %(worker)s,
started_at = docyard.clock(),
finished_at = NULL,
max_attempts = coalesce(job.max_attempts, (
    SELECT known.max_attempts
    FROM unnest(%(kinds)s::text[], %(limits)s::integer[]) AS known (kind, max_attempts)
    WHERE known.kind = job.task_name
))

-- fragment: claimed
-- The payload as text: psycopg would guess its encoding before it reads it.
job.id, job.task_name AS kind, job.queue_name AS queue, job.args::text AS payload, job.priority,
    job.attempts AS attempt, job.max_attempts, job.lease, job.lock AS lock_key, job.batch_id,
    job.timeout_seconds, job.created_at, job.started_at, job.alone

-- fragment: shut
-- Queues that this claim leaves alone.
SELECT array_agg(shut.name) AS names
FROM (
    SELECT queue.name FROM docyard.queues AS queue WHERE queue.paused OR queue.limited
    UNION ALL
    SELECT substr(pause.name, 7) FROM docyard.cool_downs AS pause
    WHERE starts_with(pause.name, 'queue ') AND pause.until > docyard.clock()
    UNION ALL
    -- Those that the caller claims from apart.
    SELECT unnest((SELECT %(apart)s::text[])::text[])
) AS shut

-- fragment: priorities_with_a_time
-- The priorities of a queue's jobs that have a time, from one to the next by the index; for a WITH RECURSIVE due.
(SELECT waiting.priority FROM docyard.procrastinate_jobs AS waiting
WHERE {has_a_time}
    AND waiting.queue_name = %(queue)s
ORDER BY waiting.priority DESC LIMIT 1)
UNION ALL
SELECT next.priority FROM due CROSS JOIN LATERAL (
    SELECT waiting.priority FROM docyard.procrastinate_jobs AS waiting
    WHERE {has_a_time}
        AND waiting.queue_name = %(queue)s AND waiting.priority < due.priority
    ORDER BY waiting.priority DESC LIMIT 1
) AS next

-- fragment: is_ready
-- As the index jobs_ready_idx says it, and has_a_time as jobs_due_idx.
waiting.status = 'todo' AND waiting.scheduled_at IS NULL AND waiting.partition_key IS NULL AND waiting.parked IS NULL

-- fragment: has_a_time
waiting.status = 'todo' AND waiting.scheduled_at IS NOT NULL AND waiting.partition_key IS NULL

-- name: claim
-- Takes up to %(slots)s runnable jobs of queues without limits, most urgent first, counts their attempt and bumps
-- their lease. However many jobs wait that cannot run (paused, limited, of the future), none of them is read: the
-- heads of what waits are found by an index probe each, per queue and priority (below its eighth priority a queue is
-- one range), and each is then read on from its head. So what is dead at an index's beginning, because a transaction is
-- held open, is walked once.
--
-- The ranges are read one after the other, the most urgent first, until there are enough jobs; each passes over what
-- others have locked. So of two claims at once the later one finds other jobs instead of waiting for the same.
--
-- The parameters stand in subqueries, for then a plan made for their values knows no more than one made for any, and
-- Postgres keeps the latter: planning this takes longer than running it.
UPDATE docyard.procrastinate_jobs AS job
SET {begun}
-- The ids come as an array: joined as a row set the planner reads and sorts the whole backlog.
WHERE job.id = ANY (ARRAY (
    WITH RECURSIVE closed AS MATERIALIZED (
        {shut}
    ), ready (queue, priority, id, place) AS (
        (SELECT waiting.queue_name, waiting.priority, waiting.id, 1 FROM docyard.procrastinate_jobs AS waiting
        WHERE {is_ready}
        ORDER BY waiting.queue_name, waiting.priority DESC, waiting.id LIMIT 1)
        UNION ALL
        SELECT next.queue_name, next.priority, next.id, next.place FROM ready CROSS JOIN LATERAL (
            SELECT lower.queue_name, lower.priority, lower.id, ready.place + 1 AS place FROM (
                SELECT waiting.queue_name, waiting.priority, waiting.id FROM docyard.procrastinate_jobs AS waiting
                WHERE {is_ready} AND waiting.queue_name = ready.queue AND waiting.priority < ready.priority
                    AND ready.place < 8
                ORDER BY waiting.priority DESC, waiting.id LIMIT 1
            ) AS lower
            UNION ALL
            SELECT other.queue_name, other.priority, other.id, 1 FROM (
                SELECT waiting.queue_name, waiting.priority, waiting.id FROM docyard.procrastinate_jobs AS waiting
                WHERE {is_ready} AND waiting.queue_name > ready.queue
                ORDER BY waiting.queue_name, waiting.priority DESC, waiting.id LIMIT 1
            ) AS other
            LIMIT 1
        ) AS next
    ), late (queue, priority, id, time) AS (
        (SELECT waiting.queue_name, waiting.priority, waiting.id, waiting.scheduled_at
        FROM docyard.procrastinate_jobs AS waiting
        WHERE {has_a_time}
        ORDER BY waiting.queue_name, waiting.priority DESC, waiting.scheduled_at, waiting.id LIMIT 1)
        UNION ALL
        SELECT next.queue_name, next.priority, next.id, next.scheduled_at FROM late CROSS JOIN LATERAL (
            SELECT lower.* FROM (
                SELECT waiting.queue_name, waiting.priority, waiting.id, waiting.scheduled_at
                FROM docyard.procrastinate_jobs AS waiting
                WHERE {has_a_time} AND waiting.queue_name = late.queue AND waiting.priority < late.priority
                ORDER BY waiting.priority DESC, waiting.scheduled_at, waiting.id LIMIT 1
            ) AS lower
            UNION ALL
            SELECT other.* FROM (
                SELECT waiting.queue_name, waiting.priority, waiting.id, waiting.scheduled_at
                FROM docyard.procrastinate_jobs AS waiting
                WHERE {has_a_time} AND waiting.queue_name > late.queue
                ORDER BY waiting.queue_name, waiting.priority DESC, waiting.scheduled_at, waiting.id LIMIT 1
            ) AS other
            LIMIT 1
        ) AS next
    ), head AS (
        SELECT ready.queue, ready.priority, ready.id, NULL::timestamptz AS time,
            CASE ready.place WHEN 8 THEN -2147483648 ELSE ready.priority END AS low,
            CASE ready.place WHEN 8 THEN 0 ELSE ready.id END AS first
        FROM ready
        UNION ALL
        SELECT late.queue, late.priority, late.id, late.time, NULL, NULL FROM late
        WHERE late.time <= docyard.clock()
    )
    SELECT taken.id
    FROM (
        SELECT head.* FROM head
        WHERE head.queue <> ALL (coalesce((SELECT closed.names FROM closed), '{}'))
            AND ((SELECT %(queues)s::text[]) IS NULL OR head.queue = ANY ((SELECT %(queues)s::text[])::text[]))
        ORDER BY head.priority DESC, head.id
    ) AS head
    CROSS JOIN LATERAL (
        SELECT here.id FROM (
            SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
            WHERE head.time IS NULL AND {is_ready} AND waiting.queue_name = head.queue
                -- Not "=" and ORDER BY id alone: that the primary key serves too, and it holds all that ever ran.
                AND waiting.priority BETWEEN head.low AND head.priority AND waiting.id >= head.first
                AND {can_run}
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT (SELECT %(slots)s::bigint)
            FOR UPDATE SKIP LOCKED
        ) AS here
        UNION ALL
        SELECT due.id FROM (
            SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
            WHERE {has_a_time} AND waiting.scheduled_at BETWEEN head.time AND docyard.clock()
                AND waiting.queue_name = head.queue AND waiting.priority = head.priority
                AND {can_run}
            ORDER BY waiting.scheduled_at, waiting.id
            LIMIT (SELECT %(slots)s::bigint)
            FOR UPDATE SKIP LOCKED
        ) AS due
    ) AS taken
    LIMIT (SELECT %(slots)s::bigint)
))
RETURNING {claimed};

-- name: claim_on
-- The claim of a worker that found more than it could take a moment ago: on from where it was, without looking for heads.
UPDATE docyard.procrastinate_jobs AS job
SET {begun}
WHERE job.id = ANY (ARRAY (
    SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
    WHERE {is_ready} AND waiting.queue_name = %(queue)s
        AND %(queue)s <> ALL (coalesce((SELECT shut.names FROM ({shut}) AS shut), '{}'))
        -- Not "=", as above.
        AND waiting.priority BETWEEN %(priority)s AND %(priority)s AND waiting.id > %(after)s
        AND {can_run}
    ORDER BY waiting.priority DESC, waiting.id
    LIMIT (SELECT %(slots)s::bigint)
    FOR UPDATE SKIP LOCKED
))
RETURNING {claimed};

-- name: choose
-- Which jobs may begin, under the lock of the queue's row. Of each partition key a few are looked at, of at most
-- %(keys)s keys after the last one of the claim before. A key's turn counts what runs of it, so whoever has least
-- running goes first; what has no key is one more party. A rate lets a job through when its weight is there, or the
-- whole of the rate if that is less.
WITH RECURSIVE rule AS MATERIALIZED (
    SELECT queue.concurrency, queue.key_concurrency, queue.rate, queue.rate_seconds, queue.key_rate,
        queue.key_rate_seconds,
        coalesce(docyard.budget_left(budget.balance, budget.balanced_at, queue.rate, queue.rate_seconds),
            queue.rate) AS rate_left
    FROM docyard.queues AS queue
    LEFT JOIN docyard.budgets AS budget
        ON budget.name = docyard.limit_name(queue.name, NULL) AND budget.unit = 'weight'
    WHERE queue.name = %(queue)s
), running AS MATERIALIZED (
    SELECT job.partition_key AS key, count(*) AS jobs
    FROM docyard.procrastinate_jobs AS job
    WHERE job.status = 'doing' AND job.counted AND job.queue_name = %(queue)s
    GROUP BY job.partition_key
), room AS MATERIALIZED (
    SELECT least(%(slots)s, rule.concurrency - (SELECT coalesce(sum(running.jobs), 0) FROM running)) AS slots
    FROM rule
), key (name, place) AS (
    (SELECT waiting.partition_key, 1 FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.status = 'todo' AND waiting.partition_key > %(after)s AND waiting.queue_name = %(queue)s
    ORDER BY waiting.partition_key LIMIT 1)
    UNION ALL
    SELECT next.partition_key, key.place + 1 FROM key CROSS JOIN LATERAL (
        SELECT waiting.partition_key FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.partition_key > key.name AND waiting.queue_name = %(queue)s
        ORDER BY waiting.partition_key LIMIT 1
    ) AS next
    WHERE key.place < %(keys)s
), party AS MATERIALIZED (
    SELECT key.name, coalesce(running.jobs, 0) AS running,
        -- Each could fill all slots. Of very many each gives its share, or this would read thousands.
        least(CASE WHEN room.slots * crowd.keys <= 2000 THEN room.slots ELSE ceil(room.slots / crowd.keys) + 1 END,
            rule.key_concurrency - coalesce(running.jobs, 0))::bigint AS most,
        coalesce(docyard.budget_left(budget.balance, budget.balanced_at, rule.key_rate, rule.key_rate_seconds),
            rule.key_rate) AS rate_left
    FROM key
    CROSS JOIN rule
    CROSS JOIN room
    CROSS JOIN (SELECT count(*)::double precision AS keys FROM key) AS crowd
    LEFT JOIN running ON running.key = key.name
    LEFT JOIN docyard.budgets AS budget
        ON budget.name = docyard.limit_name(%(queue)s, key.name) AND budget.unit = 'weight'
    WHERE NOT EXISTS (
        SELECT FROM docyard.cool_downs AS pause
        WHERE pause.name = docyard.limit_name(%(queue)s, key.name) AND pause.until > docyard.clock()
    )
), due (priority) AS (
    {priorities_with_a_time}
), candidate AS (
    SELECT party.name AS key, party.running, party.rate_left, found.id, found.priority, found.weight
    FROM party CROSS JOIN LATERAL (
        SELECT waiting.id, waiting.priority, coalesce(waiting.weight, 1) AS weight
        FROM docyard.procrastinate_jobs AS waiting
        WHERE waiting.status = 'todo' AND waiting.partition_key = party.name AND waiting.queue_name = %(queue)s
            AND coalesce(waiting.scheduled_at, '-infinity'::timestamptz) <= docyard.clock()
            AND {can_run}
        ORDER BY waiting.priority DESC, coalesce(waiting.scheduled_at, '-infinity'::timestamptz), waiting.id
        LIMIT greatest(party.most, 0)
    ) AS found
    UNION ALL
    SELECT NULL, coalesce((SELECT running.jobs FROM running WHERE running.key IS NULL), 0), NULL,
        found.id, found.priority, found.weight
    FROM room CROSS JOIN LATERAL (
        SELECT ready.* FROM (
            SELECT waiting.id, waiting.priority, coalesce(waiting.weight, 1) AS weight
            FROM docyard.procrastinate_jobs AS waiting
            WHERE {is_ready}
                AND waiting.queue_name = %(queue)s
                AND {can_run}
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT greatest(room.slots, 0)
        ) AS ready
        UNION ALL
        SELECT late.* FROM due CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.priority, coalesce(waiting.weight, 1) AS weight
            FROM docyard.procrastinate_jobs AS waiting
            WHERE waiting.status = 'todo' AND waiting.scheduled_at <= docyard.clock()
                AND waiting.partition_key IS NULL
                AND waiting.queue_name = %(queue)s AND waiting.priority = due.priority
                AND {can_run}
            ORDER BY waiting.scheduled_at, waiting.id
            LIMIT greatest(room.slots, 0)
        ) AS late
    ) AS found
), queued AS (
    SELECT candidate.*, least(candidate.weight, rule.key_rate) + coalesce(sum(candidate.weight) OVER (
            PARTITION BY candidate.key ORDER BY candidate.priority DESC, candidate.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS key_needs,
        candidate.running + row_number() OVER (
            PARTITION BY candidate.key ORDER BY candidate.priority DESC, candidate.id) AS turn
    FROM candidate CROSS JOIN rule
), admitted AS (
    SELECT queued.id, queued.priority, queued.turn, least(queued.weight, rule.rate) + coalesce(sum(queued.weight) OVER (
            ORDER BY queued.priority DESC, queued.turn, queued.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS needs
    FROM queued CROSS JOIN rule
    WHERE queued.rate_left IS NULL OR queued.key_needs <= queued.rate_left + 1e-9
), chosen AS MATERIALIZED (
    SELECT admitted.id FROM admitted CROSS JOIN rule
    WHERE rule.rate IS NULL OR admitted.needs <= rule.rate_left + 1e-9
    ORDER BY admitted.priority DESC, admitted.turn, admitted.id
    LIMIT (SELECT greatest(room.slots, 0) FROM room)
)
SELECT ARRAY (SELECT chosen.id FROM chosen) AS ids,
    (SELECT key.name FROM key WHERE key.place = %(keys)s) AS last_key,
    -- When a rate lets the next one through, in seconds.
    least(
        (SELECT min(admitted.needs - rule.rate_left) * rule.rate_seconds / rule.rate
        FROM admitted CROSS JOIN rule
        WHERE admitted.needs > rule.rate_left + 1e-9
        GROUP BY rule.rate_seconds, rule.rate),
        (SELECT min(queued.key_needs - queued.rate_left) * rule.key_rate_seconds / rule.key_rate
        FROM queued CROSS JOIN rule
        WHERE queued.key_needs > queued.rate_left + 1e-9
        GROUP BY rule.key_rate_seconds, rule.key_rate)
    )::double precision AS again_in;

-- name: claim_chosen
-- A cancel may have come first.
UPDATE docyard.procrastinate_jobs AS job
SET {begun}, counted = true
WHERE job.id = ANY (ARRAY (
    SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
    WHERE waiting.id = ANY (%(ids)s::bigint[]) AND waiting.status = 'todo'
    ORDER BY waiting.id
    FOR UPDATE SKIP LOCKED
))
RETURNING {claimed}, job.partition_key, coalesce(job.weight, 1);

-- name: claim_aged
-- Jobs that have waited for longer than %(age)s seconds, oldest first, whatever their priority: so that a low one does not
-- wait for ever. From priority to priority of each queue, an index probe each; of each the oldest few.
UPDATE docyard.procrastinate_jobs AS job
SET {begun}
WHERE job.id = ANY (ARRAY (
    WITH RECURSIVE level (queue, priority) AS (
        (SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
        WHERE {is_ready}
        ORDER BY waiting.queue_name, waiting.priority DESC LIMIT 1)
        UNION ALL
        SELECT next.queue_name, next.priority FROM level CROSS JOIN LATERAL (
            SELECT found.* FROM (
                SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
                WHERE {is_ready}
                    AND waiting.queue_name = level.queue AND waiting.priority < level.priority
                ORDER BY waiting.priority DESC LIMIT 1
            ) AS found
            UNION ALL
            SELECT found.* FROM (
                SELECT waiting.queue_name, waiting.priority FROM docyard.procrastinate_jobs AS waiting
                WHERE {is_ready}
                    AND waiting.queue_name > level.queue
                ORDER BY waiting.queue_name, waiting.priority DESC LIMIT 1
            ) AS found
            LIMIT 1
        ) AS next
    ), old AS MATERIALIZED (
        SELECT level.queue, level.priority, head.id
        FROM level CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.created_at FROM docyard.procrastinate_jobs AS waiting
            WHERE {is_ready}
                AND waiting.queue_name = level.queue AND waiting.priority = level.priority
            ORDER BY waiting.id LIMIT 1
        ) AS head
        WHERE head.created_at <= docyard.clock() - make_interval(secs => %(age)s)
            AND (%(queues)s::text[] IS NULL OR level.queue = ANY (%(queues)s::text[]))
            AND level.queue <> ALL (coalesce((SELECT shut.names FROM ({shut}) AS shut), '{}'))
    )
    SELECT taken.id
    FROM (SELECT * FROM old ORDER BY old.id) AS old
    CROSS JOIN LATERAL (
        SELECT waiting.id FROM docyard.procrastinate_jobs AS waiting
        WHERE {is_ready}
            AND waiting.queue_name = old.queue AND waiting.priority = old.priority
            AND waiting.created_at <= docyard.clock() - make_interval(secs => %(age)s)
            AND {can_run}
        ORDER BY waiting.id
        LIMIT greatest(1, %(slots)s / 2)
        FOR UPDATE SKIP LOCKED
    ) AS taken
    LIMIT %(slots)s
))
RETURNING {claimed}, job.partition_key, coalesce(job.weight, 1);

-- name: claim_weighed
-- The claim of a batch handler: of one queue, the most urgent first, as many as weigh no more than %(room)s together;
-- with %(any)s the first one whatever it weighs. Nothing overtakes one that is too heavy for the room, or it would wait
-- for ever. It looks at %(slots)s jobs at most; those that it locks and does not take are others' again in a moment.
UPDATE docyard.procrastinate_jobs AS job
SET {begun}
WHERE job.id = ANY (ARRAY (
    WITH RECURSIVE due (priority) AS (
        {priorities_with_a_time}
    ), found AS MATERIALIZED (
        SELECT ready.* FROM (
            SELECT waiting.id, waiting.priority, coalesce(waiting.weight, 1) AS weight
            FROM docyard.procrastinate_jobs AS waiting
            WHERE {is_ready}
                AND waiting.queue_name = %(queue)s
                AND %(queue)s <> ALL (coalesce((SELECT shut.names FROM ({shut}) AS shut), '{}'))
                AND {can_run}
            ORDER BY waiting.priority DESC, waiting.id
            LIMIT (SELECT %(slots)s::bigint)
            FOR UPDATE SKIP LOCKED
        ) AS ready
        UNION ALL
        SELECT late.* FROM due CROSS JOIN LATERAL (
            SELECT waiting.id, waiting.priority, coalesce(waiting.weight, 1) AS weight
            FROM docyard.procrastinate_jobs AS waiting
            WHERE {has_a_time} AND waiting.scheduled_at <= docyard.clock()
                AND waiting.queue_name = %(queue)s AND waiting.priority = due.priority
                AND %(queue)s <> ALL (coalesce((SELECT shut.names FROM ({shut}) AS shut), '{}'))
                AND {can_run}
            ORDER BY waiting.scheduled_at, waiting.id
            LIMIT (SELECT %(slots)s::bigint)
            FOR UPDATE SKIP LOCKED
        ) AS late
    ), queued AS (
        SELECT found.id, row_number() OVER line AS place,
            sum(found.weight) OVER (line ROWS UNBOUNDED PRECEDING) AS weight
        FROM found
        WINDOW line AS (ORDER BY found.priority DESC, found.id)
    )
    SELECT queued.id FROM queued
    WHERE (queued.weight <= %(room)s + 1e-9 OR queued.place = 1 AND %(any)s) AND queued.place <= %(slots)s
))
RETURNING {claimed}, job.partition_key, coalesce(job.weight, 1);

-- name: fronts
-- What stands at the front of queues: of each the first %(places)s jobs that are ready, and as many that are due, counted by
-- kind. With %(queues)s of NULL of all queues in which something waits, found from name to name. However much waits,
-- no more is read.
WITH RECURSIVE ready (queue) AS (
    (SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
    WHERE {is_ready} AND %(queues)s::text[] IS NULL
    ORDER BY waiting.queue_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name FROM ready CROSS JOIN LATERAL (
        SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
        WHERE {is_ready} AND waiting.queue_name > ready.queue
        ORDER BY waiting.queue_name LIMIT 1
    ) AS next
), due (queue) AS (
    (SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
    WHERE {has_a_time} AND %(queues)s::text[] IS NULL
    ORDER BY waiting.queue_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name FROM due CROSS JOIN LATERAL (
        SELECT waiting.queue_name FROM docyard.procrastinate_jobs AS waiting
        WHERE {has_a_time} AND waiting.queue_name > due.queue
        ORDER BY waiting.queue_name LIMIT 1
    ) AS next
), asked AS (
    SELECT unnest(%(queues)s::text[]) AS queue
    UNION
    SELECT ready.queue FROM ready
    UNION
    SELECT due.queue FROM due
)
SELECT asked.queue, front.late, front.kind, count(*)
FROM asked CROSS JOIN LATERAL (
    (SELECT waiting.task_name AS kind, false AS late FROM docyard.procrastinate_jobs AS waiting
    WHERE {is_ready} AND waiting.queue_name = asked.queue
    ORDER BY waiting.priority DESC, waiting.id LIMIT %(places)s)
    UNION ALL
    (WITH RECURSIVE level (priority) AS (
        (SELECT waiting.priority FROM docyard.procrastinate_jobs AS waiting
        WHERE {has_a_time} AND waiting.queue_name = asked.queue
        ORDER BY waiting.priority DESC LIMIT 1)
        UNION ALL
        SELECT next.priority FROM level CROSS JOIN LATERAL (
            SELECT waiting.priority FROM docyard.procrastinate_jobs AS waiting
            WHERE {has_a_time} AND waiting.queue_name = asked.queue AND waiting.priority < level.priority
            ORDER BY waiting.priority DESC LIMIT 1
        ) AS next
    )
    SELECT late.kind, true FROM level CROSS JOIN LATERAL (
        SELECT waiting.task_name AS kind FROM docyard.procrastinate_jobs AS waiting
        WHERE {has_a_time} AND waiting.scheduled_at <= docyard.clock()
            AND waiting.queue_name = asked.queue AND waiting.priority = level.priority
        ORDER BY waiting.scheduled_at, waiting.id LIMIT %(places)s
    ) AS late
    LIMIT %(places)s)
) AS front
GROUP BY asked.queue, front.late, front.kind;
