-- What vectors cost, by day, model and collection, and a ceiling of a day that holds over the whole fleet.

CREATE TABLE docyard.spending (
    -- A day of UTC, so that the whole fleet has the same.
    day date NOT NULL,
    -- A name and no key: what was spent stays when its model is dropped.
    model text NOT NULL,
    collection text NOT NULL,
    requests bigint NOT NULL,
    tokens bigint NOT NULL,
    -- US dollars, of the requests whose price was known. NULL: of none.
    cost numeric,
    PRIMARY KEY (day, model, collection)
    -- Every request updates a row of today, and finds room for the new version on the same page.
) WITH (fillfactor = 50);

-- A row per day on which somebody had a ceiling. Who reserves money holds its lock, so that two cannot both
-- take the last cent.
CREATE TABLE docyard.spend_ceilings (
    day date PRIMARY KEY,
    ceiling numeric NOT NULL,
    -- When a request was first refused because of this ceiling. NULL: none was.
    reached_at timestamptz
);

-- What requests under way may cost. A row goes when its request is settled; that of a process which died before
-- counts no more once it has expired.
CREATE TABLE docyard.spend_holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day date NOT NULL,
    cost numeric NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Where the sweep for chunks without a vector goes on, so that what it found in vain is not all that it ever sees.
CREATE TABLE docyard.embedding_sweeps (
    model_id integer PRIMARY KEY REFERENCES docyard.embedding_models ON DELETE CASCADE,
    after_chunk bigint NOT NULL,
    swept_at timestamptz NOT NULL
);

CREATE VIEW docyard.spend AS
SELECT spent.day, spent.model, spent.collection, spent.requests, spent.tokens, spent.cost
FROM docyard.spending AS spent;

-- Takes amounts from the units of a budget, all or none, in one round trip. wait_s is NULL when they were taken, and
-- then "units" are those that have a budget; else nothing was, and it says for how long to wait. "reason" is NULL
-- unless that is for a cool-down.
CREATE FUNCTION docyard.reserve_budget(
    of_name text, wanted_units text[], wanted_amounts double precision[],
    OUT wait_s double precision, OUT reason text, OUT units text[]
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
    pause record;
BEGIN
    units := '{}';
    SELECT extract(epoch FROM cooling.until - docyard.clock()), coalesce(cooling.reason, '') INTO wait_s, reason
    FROM docyard.cool_downs AS cooling WHERE cooling.name = of_name AND cooling.until > docyard.clock();
    IF FOUND THEN
        RETURN;
    END IF;
    FOR held IN
        -- In the order of the units, so that two reservations cannot wait for each other.
        SELECT budget.unit, budget.amount, budget.window_seconds, wanted.amount AS wanted,
            docyard.budget_left(budget.balance, budget.balanced_at, budget.amount, budget.window_seconds) AS remaining
        FROM unnest(wanted_units, wanted_amounts) AS wanted (unit, amount)
        JOIN docyard.budgets AS budget ON budget.name = of_name AND budget.unit = wanted.unit
        ORDER BY budget.unit
        FOR UPDATE OF budget
    LOOP
        units := units || held.unit;
        -- More than the whole budget is let through when the budget is full. Sums of fractions are not exact; a
        -- millionth of a token is nobody's.
        IF least(held.wanted, held.amount) - held.remaining > 1e-6 THEN
            wait_s := greatest(wait_s,
                (least(held.wanted, held.amount) - held.remaining) * held.window_seconds / held.amount);
        END IF;
    END LOOP;
    IF units = '{}' THEN
        RETURN;
    END IF;
    -- Somebody may have been told to cool down while we waited for the rows.
    SELECT extract(epoch FROM cooling.until - docyard.clock()) AS left_s, coalesce(cooling.reason, '') AS reason
    INTO pause
    FROM docyard.cool_downs AS cooling WHERE cooling.name = of_name AND cooling.until > docyard.clock();
    IF FOUND THEN
        wait_s := pause.left_s;
        reason := pause.reason;
    ELSIF wait_s IS NULL THEN
        UPDATE docyard.budgets AS budget
        SET balance = docyard.budget_left(
                budget.balance, budget.balanced_at, budget.amount, budget.window_seconds) - wanted.amount,
            -- Who waited for the row began before its last holder, whose time has been counted already.
            balanced_at = greatest(budget.balanced_at, docyard.clock())
        FROM unnest(wanted_units, wanted_amounts) AS wanted (unit, amount)
        WHERE budget.name = of_name AND budget.unit = wanted.unit;
    END IF;
END;
$$;

-- The same, and of a day's ceiling (NULL: none) what the request may cost. "cause" is NULL when all was taken, else
-- what there was not enough of: cool_down, budget, ceiling (until midnight), under_way (until others are settled).
-- "hold" is to be given back with the settlement.
CREATE FUNCTION docyard.reserve_spend(
    account text, wanted_units text[], wanted_amounts double precision[], wanted_cost numeric, day_ceiling numeric,
    OUT cause text, OUT wait_s double precision, OUT reason text, OUT units text[], OUT today date, OUT hold bigint,
    OUT spent numeric
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    under_way numeric;
    taken record;
BEGIN
    units := '{}';
    today := (docyard.clock() AT TIME ZONE 'UTC')::date;
    IF day_ceiling IS NOT NULL AND wanted_cost > 0 THEN
        INSERT INTO docyard.spend_ceilings AS known (day, ceiling) VALUES (today, day_ceiling)
        ON CONFLICT (day) DO NOTHING;
        PERFORM FROM docyard.spend_ceilings AS known WHERE known.day = today FOR UPDATE;
        -- One statement, hence of one moment: a settlement turns the one into the other.
        SELECT
            coalesce((SELECT sum(done.cost) FROM docyard.spending AS done WHERE done.day = today), 0),
            coalesce((SELECT sum(other.cost) FROM docyard.spend_holds AS other
                      WHERE other.day = today AND other.expires_at > docyard.clock()), 0)
        INTO spent, under_way;
        IF spent + under_way + wanted_cost > day_ceiling THEN
            IF spent + wanted_cost > day_ceiling THEN
                cause := 'ceiling';
                wait_s := extract(epoch FROM ((today + 1)::timestamp AT TIME ZONE 'UTC') - docyard.clock());
                UPDATE docyard.spend_ceilings AS known SET ceiling = day_ceiling, reached_at = docyard.clock()
                WHERE known.day = today AND (known.reached_at IS NULL OR known.ceiling <> day_ceiling);
            ELSE
                cause := 'under_way';
                wait_s := 5;
            END IF;
            RETURN;
        END IF;
    END IF;
    SELECT * INTO taken FROM docyard.reserve_budget(account, wanted_units, wanted_amounts);
    wait_s := taken.wait_s;
    reason := taken.reason;
    units := taken.units;
    IF wait_s IS NOT NULL THEN
        cause := CASE WHEN reason IS NULL THEN 'budget' ELSE 'cool_down' END;
    ELSIF day_ceiling IS NOT NULL AND wanted_cost > 0 THEN
        -- Those of the dead, a few at a time.
        DELETE FROM docyard.spend_holds AS gone WHERE gone.id = ANY (ARRAY (
            SELECT old.id FROM docyard.spend_holds AS old
            WHERE old.expires_at <= docyard.clock() LIMIT 10 FOR UPDATE SKIP LOCKED
        ));
        INSERT INTO docyard.spend_holds (day, cost, expires_at)
        VALUES (today, wanted_cost, docyard.clock() + interval '10 minutes')
        RETURNING id INTO hold;
        UPDATE docyard.spend_ceilings AS known SET ceiling = day_ceiling, reached_at = NULL
        WHERE known.day = today AND known.ceiling <> day_ceiling;
    END IF;
END;
$$;
