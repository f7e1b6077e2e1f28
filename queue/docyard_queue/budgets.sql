-- name: set_budget
-- Who has one already keeps the share that was left of it.
INSERT INTO docyard.budgets AS budget (name, unit, amount, window_seconds, balance, balanced_at)
VALUES (%(name)s, %(unit)s, %(amount)s, %(window)s, %(amount)s, docyard.clock())
ON CONFLICT (name, unit) DO UPDATE
SET balance = excluded.amount / budget.amount
        * docyard.budget_left(budget.balance, budget.balanced_at, budget.amount, budget.window_seconds),
    amount = excluded.amount, window_seconds = excluded.window_seconds, balanced_at = docyard.clock();

-- name: remove_budget
DELETE FROM docyard.budgets WHERE name = %(name)s AND (%(unit)s::text IS NULL OR unit = %(unit)s) RETURNING unit;

-- name: list_budgets
SELECT coalesce(budget.name, pause.name) AS name, budget.unit, budget.amount, budget.window_seconds,
    docyard.budget_left(budget.balance, budget.balanced_at, budget.amount, budget.window_seconds) AS remaining,
    pause.until AS cool_until, pause.reason
FROM docyard.budgets AS budget
FULL JOIN (SELECT * FROM docyard.cool_downs WHERE until > docyard.clock()) AS pause ON pause.name = budget.name
ORDER BY 1, 2;

-- name: reserve
-- A function, so that to look and to take is one round trip and one transaction.
SELECT taken.wait_s, taken.reason, taken.units
FROM docyard.reserve_budget(%(name)s::text, %(units)s::text[], %(amounts)s::double precision[]) AS taken;

-- name: give_back
-- What was reserved and not used; a negative amount is what was used beyond. The time of the balance stays: the
-- bucket has been filling since. The rows are locked in their order, so that two of these cannot wait for each other.
WITH held AS MATERIALIZED (
    SELECT budget.name, budget.unit, given.amount
    FROM unnest(%(names)s::text[], %(units)s::text[], %(amounts)s::double precision[]) AS given (name, unit, amount)
    JOIN docyard.budgets AS budget ON budget.name = given.name AND budget.unit = given.unit
    ORDER BY budget.name, budget.unit
    FOR UPDATE OF budget
)
UPDATE docyard.budgets AS budget SET balance = budget.balance + held.amount
FROM held WHERE budget.name = held.name AND budget.unit = held.unit;

-- name: cool_down
-- The longer one of two holds. Those that are over go with it, a few at a time. Nobody waits for the disk: the fleet
-- is to hear it at once, and a cool-down that a crash of the server forgets is told again by the next 429.
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), over AS (
    DELETE FROM docyard.cool_downs WHERE name = ANY (ARRAY (
        SELECT pause.name FROM docyard.cool_downs AS pause
        WHERE pause.until <= docyard.clock() AND pause.name <> %(name)s
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    ))
)
INSERT INTO docyard.cool_downs AS pause (name, until, reason)
SELECT %(name)s, docyard.clock() + make_interval(secs => %(seconds)s), %(reason)s FROM quick
ON CONFLICT (name) DO UPDATE SET until = excluded.until, reason = excluded.reason
WHERE pause.until < excluded.until;

-- name: limit_name
SELECT docyard.limit_name(%(queue)s::text, %(key)s::text);
