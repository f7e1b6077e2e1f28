-- name: reserve
-- Check and take are one function, and so one round trip and one transaction.
SELECT taken.cause, taken.wait_s, taken.reason, taken.units, taken.today, taken.hold, taken.spent
FROM docyard.reserve_spend(%(account)s::text, %(units)s::text[], %(amounts)s::double precision[],
    %(cost)s::numeric, %(ceiling)s::numeric) AS taken;

-- name: settle
-- A request's end in one statement of its own: what it may cost becomes what it did, and its budget gets the
-- difference. Rows are locked in their order, so that two settlements cannot wait for each other.
WITH released AS (
    DELETE FROM docyard.spend_holds WHERE id = %(hold)s::bigint
), held AS MATERIALIZED (
    SELECT budget.name, budget.unit, given.amount
    FROM unnest(%(units)s::text[], %(amounts)s::double precision[]) AS given (unit, amount)
    JOIN docyard.budgets AS budget ON budget.name = %(account)s AND budget.unit = given.unit
    ORDER BY budget.unit
    FOR UPDATE OF budget
), balanced AS (
    -- The time of the balance stays: the bucket has been filling since.
    UPDATE docyard.budgets AS budget SET balance = budget.balance + held.amount
    FROM held WHERE budget.name = held.name AND budget.unit = held.unit
)
INSERT INTO docyard.spending AS spent (day, model, collection, requests, tokens, cost)
SELECT %(day)s::date, %(model)s, part.collection, part.requests, part.tokens, part.cost
FROM unnest(%(collections)s::text[], %(requests)s::bigint[], %(tokens)s::bigint[], %(costs)s::numeric[])
    AS part (collection, requests, tokens, cost)
ORDER BY part.collection
ON CONFLICT (day, model, collection) DO UPDATE
SET requests = spent.requests + excluded.requests, tokens = spent.tokens + excluded.tokens,
    cost = coalesce(spent.cost + excluded.cost, spent.cost, excluded.cost);

-- name: list_spend
SELECT spent.day, spent.model, spent.collection, spent.requests, spent.tokens, spent.cost
FROM docyard.spend AS spent
WHERE spent.day > (docyard.clock() AT TIME ZONE 'UTC')::date - %(days)s::integer
ORDER BY spent.day DESC, spent.model, spent.collection;

-- name: today
-- The ceiling is the one that a request of today was last held against.
SELECT day.today AS day, coalesce(sum(spent.requests), 0)::bigint AS requests,
    coalesce(sum(spent.tokens), 0)::bigint AS tokens, sum(spent.cost) AS cost,
    (SELECT sum(hold.cost) FROM docyard.spend_holds AS hold
     WHERE hold.day = day.today AND hold.expires_at > docyard.clock()) AS reserved,
    known.ceiling, known.reached_at
FROM (SELECT (docyard.clock() AT TIME ZONE 'UTC')::date AS today) AS day
LEFT JOIN docyard.spend_ceilings AS known ON known.day = day.today
LEFT JOIN docyard.spend AS spent ON spent.day = day.today
GROUP BY day.today, known.ceiling, known.reached_at;
