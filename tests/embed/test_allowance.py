"""Requests are reserved and settled over the whole fleet: cool-downs, budgets, the day's ceiling, spend."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from conftest import opened
from support.clock import set_the_clock
from support.eventually import eventually
from support.locks import waiting_for_locks
from support.queueing import add, attempts, query
from support.working import running

from docyard_queue import NewJob, RateLimited, Registry
from docyard_queue.budgets import list_budgets, set_budget
from docyard_queue.explain import explain
from docyard_queue.limits import Rate
from docyard_schema import ModelIdentity
from docyard_schema.embeddings.spend import list_spend, spend_today
from docyard_schema.errors import ConfigError
from docyard_workers.embed.allowance import Allowance
from docyard_workers.embed.providers import ProviderLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema import Database

MINUTE = timedelta(minutes=1)


class Provider:
    """What an allowance asks of one: a dollar for a million tokens, unless said otherwise."""

    account = "openai:api.example:0123abcd"

    def __init__(self, price: str | None = "1", name: str = "model", account: str | None = None) -> None:
        self.limits = ProviderLimits(price_per_million_tokens=None if price is None else Decimal(price))
        self.model = ModelIdentity(name=name, provider="test", dimension=3, hash="ab" * 32)
        self.account = account or self.account


def allowance(database: Database, price: str | None = "1", **options: Any) -> Allowance:
    ceiling = options.pop("ceiling", None)
    return Allowance(
        database,
        Provider(price, **options),  # type: ignore[arg-type]
        daily_ceiling=None if ceiling is None else Decimal(ceiling),
    )


@pytest.fixture
async def fleet(url: str) -> AsyncIterator[list[Database]]:
    """The same database, as four processes have it."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(url)) for _ in range(4)]


async def remaining(database: Database) -> dict[str | None, float | None]:
    return {budget.unit: budget.remaining for budget in await list_budgets(database)}


async def test_without_budgets_a_reservation_writes_nothing_and_a_settlement_says_what_was_spent(
    database: Database,
) -> None:
    asked = allowance(database)
    reserved = await asked.reserve(1_000)
    assert (reserved.amounts, reserved.hold, reserved.cost) == ({}, None, Decimal("0.001"))
    assert await query(database, "SELECT 1 FROM docyard.spend_holds") == []
    await asked.settle(reserved, tokens=1_003, shares={"manual": 0.75, "notes": 0.25})
    await asked.settle(await asked.reserve(10), tokens=10, shares={"notes": 1})
    told = [
        (row.model, row.collection, row.requests, row.tokens, row.cost) for row in await list_spend(database)
    ]
    assert told == [
        ("model", "manual", 1, 752, Decimal("0.000752")),
        ("model", "notes", 1, 261, Decimal("0.000261")),
    ]
    assert (await spend_today(database)).tokens == 1_013


async def test_a_reservation_is_one_round_trip(database: Database) -> None:
    asked = allowance(database, ceiling="5")
    await set_budget(database, Provider.account, "tokens", Rate(10_000, MINUTE))
    await asked.reserve(1)
    executed: list[object] = []
    async with database.connection() as connection:
        cursor_class = type(connection.cursor())
    original = cursor_class.execute

    async def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        executed.append(arguments[0])
        return await original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor_class, "execute", counted)
        await asked.reserve(1)
    assert len(executed) == 1


async def test_an_unknown_price_is_no_cost_and_no_money_is_taken(database: Database) -> None:
    await set_budget(database, Provider.account, "money", Rate(1, MINUTE))
    asked = allowance(database, price=None)
    assert asked.cost_of(1_000_000) is None
    reserved = await asked.reserve(1_000_000)
    assert (reserved.amounts, reserved.cost) == ({}, None)
    await asked.settle(reserved, tokens=5, shares={"a": 1})
    priced = allowance(database, name="other")
    await priced.settle(await priced.reserve(100), tokens=100, shares={"a": 1})
    assert [(row.model, row.cost) for row in await list_spend(database)] == [
        ("model", None), ("other", Decimal("0.0001"))]  # fmt: skip


async def test_budgets_are_reserved_by_the_estimate_and_settled_by_the_usage(database: Database) -> None:
    await set_the_clock(database)
    for unit, amount in (("requests", 10), ("tokens", 1_000), ("money", 1)):
        await set_budget(database, Provider.account, unit, Rate(amount, MINUTE))
    asked = allowance(database, price="100")
    reserved = await asked.reserve(800)
    assert await remaining(database) == pytest.approx({"requests": 9, "tokens": 200, "money": 0.92})
    with pytest.raises(RateLimited, match="not enough") as refused:
        await asked.reserve(800)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after.total_seconds() == pytest.approx(36)
    await asked.settle(reserved, tokens=500, shares={"a": 1})
    assert await remaining(database) == pytest.approx({"requests": 9, "tokens": 500, "money": 0.95})
    await asked.give_back(await asked.reserve(400))
    assert await remaining(database) == pytest.approx({"requests": 9, "tokens": 500, "money": 0.95})


async def test_a_cool_down_is_known_here_before_anything_is_awaited_and_elsewhere_at_the_next_question(
    fleet: list[Database],
) -> None:
    here, there = allowance(fleet[0]), allowance(fleet[1])
    await there.reserve(1)
    telling = here.cool_down(timedelta(seconds=30), "429 from the provider")
    assert here.cooling == pytest.approx(30, abs=1)
    assert allowance(fleet[0], name="the account's other model").cooling > 29
    assert there.cooling == 0
    with pytest.raises(RateLimited, match="429 from the provider"):
        await here.reserve(1)
    await telling
    with pytest.raises(RateLimited, match="429 from the provider") as refused:
        await there.reserve(1)
    assert refused.value.retry_after is not None
    assert there.cooling == pytest.approx(refused.value.retry_after.total_seconds(), abs=1)
    await allowance(fleet[1], account="another").reserve(1)


async def test_who_is_told_to_cool_down_while_reserving_gives_back_and_does_not_send(
    database: Database,
) -> None:
    await set_the_clock(database)
    await set_budget(database, Provider.account, "tokens", Rate(1_000, MINUTE))
    asked = allowance(database, ceiling="5")
    reserving = asyncio.create_task(asked.reserve(100))
    await asyncio.sleep(0)  # it is on its way to the database
    telling = asked.cool_down(timedelta(seconds=30), "429")
    with pytest.raises(RateLimited, match="429"):
        await reserving
    await telling
    assert (await remaining(database))["tokens"] == pytest.approx(1_000)
    assert (await spend_today(database)).reserved is None


async def test_who_waits_for_a_budget_sees_a_cool_down_that_came_meanwhile(fleet: list[Database]) -> None:
    await set_budget(fleet[0], Provider.account, "tokens", Rate(1_000, MINUTE))
    first, second = allowance(fleet[0]), allowance(fleet[1])
    async with fleet[2].transaction() as connection:
        await connection.execute(fleet[2].sql("SELECT FROM docyard.budgets FOR UPDATE"))
        reserving = asyncio.create_task(second.reserve(1))
        await eventually(lambda: waiting_for_locks(fleet[0].url), what="a reservation to wait for the row")
        await first.cool_down(timedelta(seconds=30), "429")
    with pytest.raises(RateLimited, match="429"):
        await reserving


async def test_the_fleet_never_reserves_more_than_the_days_ceiling(fleet: list[Database]) -> None:
    # A request costs a cent, and the day has ten.
    asked = [allowance(database, ceiling="0.10") for database in fleet for _ in range(10)]
    answers = await asyncio.gather(*[one.reserve(10_000) for one in asked], return_exceptions=True)
    won = [(one, got) for one, got in zip(asked, answers, strict=True) if not isinstance(got, BaseException)]
    lost = [got for got in answers if isinstance(got, BaseException)]
    assert len(won) == 10
    assert all(isinstance(error, RateLimited) for error in lost)
    assert (await spend_today(fleet[0])).reserved == Decimal("0.10")
    for one, reserved in won:
        await one.settle(reserved, tokens=10_000, shares={"a": 1})
    today = await spend_today(fleet[0])
    assert (today.cost, today.reserved) == (Decimal("0.10"), None)


async def test_at_the_ceiling_it_is_midnight_until_when_to_wait(database: Database) -> None:
    await set_the_clock(database, "2026-03-01 21:00+00")
    asked = allowance(database, ceiling="0.02")
    await asked.settle(await asked.reserve(10_000), tokens=15_000, shares={"a": 1})
    with pytest.raises(
        RateLimited, match=r"ceiling of \$0.0200.*\$0.0150 are spent.*midnight UTC"
    ) as refused:
        await asked.reserve(10_000)
    assert refused.value.retry_after == timedelta(hours=3)
    today = await spend_today(database)
    assert (today.ceiling, today.reached_at is not None) == (Decimal("0.02"), True)
    await asked.reserve(5_000)
    await set_the_clock(database, "2026-03-02 00:00+00")
    await asked.reserve(10_000)
    assert (await spend_today(database)).reached_at is None


async def test_a_job_at_the_ceiling_waits_for_midnight_loses_no_attempt_and_says_why(
    database: Database,
) -> None:
    await set_the_clock(database, "2026-03-01 21:00+00")
    registry, asked = Registry(), allowance(database, ceiling="0.01")

    @registry.handler("ask")
    async def ask(attempt: Any, payload: dict[str, Any]) -> None:
        await asked.reserve(20_000)

    [job_id] = await add(database, NewJob("ask"))
    async with running(database, registry):
        await eventually(lambda: attempts(database, job_id), what="the first attempt to end")
    [job] = await query(database, "SELECT * FROM docyard.jobs WHERE id = %s", job_id)
    assert (job["state"], job["attempts"]) == ("scheduled", 0)
    assert job["run_at"] == datetime(2026, 3, 2, tzinfo=UTC)
    [reason] = [found for found in (await explain(database, job_id)).reasons if found.code == "snoozed"]
    assert "until 2026-03-02 00:00:00Z: The daily ceiling of $0.0100 leaves no room" in reason.text


async def test_a_raised_ceiling_holds_at_once(database: Database) -> None:
    low, high = allowance(database, ceiling="0.01"), allowance(database, ceiling="1")
    with pytest.raises(RateLimited):
        await low.reserve(20_000)
    await high.reserve(20_000)
    today = await spend_today(database)
    assert (today.ceiling, today.reached_at) == (Decimal("1"), None)


async def test_what_others_may_yet_not_use_is_waited_for_and_not_the_next_day(database: Database) -> None:
    asked = allowance(database, ceiling="0.03")
    under_way = await asked.reserve(20_000)
    with pytest.raises(RateLimited, match="under way") as refused:
        await asked.reserve(20_000)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= timedelta(seconds=10)
    await asked.settle(under_way, tokens=9_000, shares={"a": 1})
    await asked.reserve(20_000)


async def test_what_a_dead_process_reserved_is_free_after_minutes(database: Database) -> None:
    await set_the_clock(database, "2026-03-01 12:00+00")
    asked = allowance(database, ceiling="0.03")
    await asked.reserve(20_000)
    await set_the_clock(database, "2026-03-01 12:09+00")
    with pytest.raises(RateLimited):
        await asked.reserve(20_000)
    await set_the_clock(database, "2026-03-01 12:11+00")
    await asked.reserve(20_000)
    assert len(await query(database, "SELECT 1 FROM docyard.spend_holds")) == 1


async def test_a_request_that_ends_after_midnight_is_of_the_day_that_it_was_reserved_on(
    database: Database,
) -> None:
    await set_the_clock(database, "2026-03-01 23:59+00")
    asked = allowance(database, ceiling="1")
    reserved = await asked.reserve(100)
    await set_the_clock(database, "2026-03-02 00:01+00")
    await asked.settle(reserved, tokens=100, shares={"a": 1})
    assert (await spend_today(database)).tokens == 0
    assert [str(row.day) for row in await list_spend(database, days=2)] == ["2026-03-01"]


async def test_a_ceiling_on_what_has_no_price_is_refused_at_once(database: Database) -> None:
    with pytest.raises(ConfigError, match="needs a price") as refused:
        allowance(database, price=None, ceiling="1")
    assert "PRICE_PER_MILLION" in refused.value.hint
    free = allowance(database, price="0", ceiling="1")
    assert (await free.reserve(10**9)).hold is None


async def test_a_storm_of_reservations_and_settlements_stays_below_the_ceiling_and_nobody_deadlocks(
    fleet: list[Database],
) -> None:
    for unit in ("requests", "tokens", "money"):
        await set_budget(fleet[0], Provider.account, unit, Rate(10_000_000, MINUTE))
    sent = 0

    async def send(number: int) -> None:
        nonlocal sent
        asked = allowance(fleet[number % 4], ceiling="0.30", name=f"model {number % 2}")
        for _ in range(4):
            try:
                reserved = await asked.reserve(10_000)
            except RateLimited:
                continue
            today = await spend_today(fleet[number % 4])
            assert (today.cost or 0) + (today.reserved or 0) <= Decimal("0.30")
            if number % 5 == 0:
                await asked.give_back(reserved)
            else:
                sent += 1
                await asked.settle(reserved, tokens=10_000, shares={"b": 1, "a": 2, f"c {number % 3}": 1})

    await asyncio.gather(*[send(number) for number in range(40)])
    today = await spend_today(fleet[0])
    assert (today.cost, today.reserved) == (Decimal("0.01") * sent, None)
    assert sent > 20
