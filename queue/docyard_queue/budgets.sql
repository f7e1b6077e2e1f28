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

-- name: lock_budgets
-- In the order of the units, so that two reservations cannot wait for each other.
SELECT budget.unit, budget.amount, budget.window_seconds,
    docyard.budget_left(budget.balance, budget.balanced_at, budget.amount, budget.window_seconds)
FROM docyard.budgets AS budget
WHERE budget.name = %(name)s AND budget.unit = ANY (%(units)s::text[])
ORDER BY budget.unit
FOR UPDATE;

-- name: cooling
SELECT extract(epoch FROM pause.until - docyard.clock())::double precision, pause.reason
FROM docyard.cool_downs AS pause WHERE pause.name = %(name)s AND pause.until > docyard.clock();

-- name: take
UPDATE docyard.budgets AS budget
SET balance = docyard.budget_left(budget.balance, budget.balanced_at, budget.amount, budget.window_seconds)
        - taken.amount,
    balanced_at = docyard.clock()
FROM unnest(%(units)s::text[], %(amounts)s::double precision[]) AS taken (unit, amount)
WHERE budget.name = %(name)s AND budget.unit = taken.unit;

-- name: give_back
-- What was reserved and not used; a negative amount is what was used beyond. The time of the balance stays: the
-- bucket has been filling since.
UPDATE docyard.budgets AS budget SET balance = budget.balance + given.amount
FROM unnest(%(names)s::text[], %(units)s::text[], %(amounts)s::double precision[]) AS given (name, unit, amount)
WHERE budget.name = given.name AND budget.unit = given.unit;

-- name: cool_down
-- The longer one of two holds. Those that are over go with it, a few at a time.
WITH over AS (
    DELETE FROM docyard.cool_downs WHERE name = ANY (ARRAY (
        SELECT pause.name FROM docyard.cool_downs AS pause
        WHERE pause.until <= docyard.clock() AND pause.name <> %(name)s
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    ))
)
INSERT INTO docyard.cool_downs AS pause (name, until, reason)
VALUES (%(name)s, docyard.clock() + make_interval(secs => %(seconds)s), %(reason)s)
ON CONFLICT (name) DO UPDATE SET until = excluded.until, reason = excluded.reason
WHERE pause.until < excluded.until;

-- name: limit_name
SELECT docyard.limit_name(%(queue)s::text, %(key)s::text);
