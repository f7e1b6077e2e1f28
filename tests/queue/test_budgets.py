"""Budgets are shared by the fleet: reserved, settled, and left alone while they cool down."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import KINDS, add, query

from docyard_queue import NewJob, PostgresEngine, RateLimited
from docyard_queue.attempt import Attempt
from docyard_queue.budgets import cool_down, list_budgets, remove_budget, reserve, set_budget, settle
from docyard_queue.limits import Limits, Rate, set_limits
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database

MINUTE = timedelta(minutes=1)


async def stop_the_clock(database: Database, seconds: float = 0) -> None:
    await query(
        database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET docyard.now = %%L', current_database(), "
        f"now() + interval '{seconds} seconds'); END $$",
    )
    await database.pool.drain()


async def remaining(database: Database) -> dict[str | None, float | None]:
    return {budget.unit: budget.remaining for budget in await list_budgets(database)}


async def test_all_units_are_reserved_or_none(database: Database) -> None:
    await stop_the_clock(database)
    await set_budget(database, "openai", "requests", Rate(2, MINUTE))
    await set_budget(database, "openai", "tokens", Rate(1000, MINUTE))
    await reserve(database, "openai", requests=1, tokens=700)
    with pytest.raises(RateLimited, match=r"300.* tokens|tokens") as refused:
        await reserve(database, "openai", requests=1, tokens=600)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after.total_seconds() == pytest.approx(18, abs=0.1)
    assert await remaining(database) == {"requests": pytest.approx(1), "tokens": pytest.approx(300)}


async def test_settling_gives_back_what_was_not_used_and_takes_what_was_used_beyond(
    database: Database,
) -> None:
    await stop_the_clock(database)
    await set_budget(database, "openai", "tokens", Rate(1000, MINUTE))
    reservation = await reserve(database, "openai", tokens=700)
    await settle(database, reservation, tokens=200)
    assert await remaining(database) == {"tokens": pytest.approx(800)}
    reservation = await reserve(database, "openai", tokens=700)
    await settle(database, reservation, tokens=900)
    assert await remaining(database) == {"tokens": pytest.approx(-100)}


async def test_more_than_the_whole_budget_is_let_through_when_it_is_full(database: Database) -> None:
    await stop_the_clock(database)
    await set_budget(database, "openai", "tokens", Rate(1000, MINUTE))
    await reserve(database, "openai", tokens=2500)
    with pytest.raises(RateLimited):
        await reserve(database, "openai", tokens=1)
    await stop_the_clock(database, 100)
    await reserve(database, "openai", tokens=1)


async def test_a_hundred_that_reserve_at_once_never_get_more_than_there_is(database: Database) -> None:
    await stop_the_clock(database)
    await set_budget(database, "openai", "requests", Rate(30, MINUTE))
    answers = await asyncio.gather(
        *[reserve(database, "openai", requests=1) for _ in range(100)], return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 30
    assert all(isinstance(answer, RateLimited) for answer in answers if isinstance(answer, BaseException))


async def test_what_has_no_budget_is_free_but_cools_down(database: Database) -> None:
    assert (await reserve(database, "cohere", requests=1)).amounts == {}
    await cool_down(database, "cohere", MINUTE, reason="429")
    await cool_down(database, "cohere", timedelta(seconds=1))
    with pytest.raises(RateLimited, match="429") as refused:
        await reserve(database, "cohere", requests=1)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > timedelta(seconds=50), "the longer one holds"


async def test_a_budget_that_is_raised_keeps_its_share(database: Database) -> None:
    await stop_the_clock(database)
    await set_budget(database, "openai", "tokens", Rate(1000, MINUTE))
    await reserve(database, "openai", tokens=500)
    await set_budget(database, "openai", "tokens", Rate(4000, MINUTE))
    assert await remaining(database) == {"tokens": pytest.approx(2000)}
    assert await remove_budget(database, "openai") == ["tokens"]


async def test_names_of_queues_and_bad_amounts_are_refused(database: Database) -> None:
    with pytest.raises(InvalidInput, match="kept for the rates of queues"):
        await reserve(database, "queue default", requests=1)
    with pytest.raises(InvalidInput, match="from zero on"):
        await reserve(database, "openai", requests=-1)


async def test_a_handler_cools_its_key_down_and_nobody_else(database: Database) -> None:
    await add(database, *[NewJob("work", partition_key=key) for key in "aab"], NewJob("work"))
    engine = PostgresEngine(database)
    [job] = (await engine.claim_limited(1, "default", slots=1, kinds=KINDS)).jobs
    job = job if job.partition_key == "a" else (await engine.claim_limited(
        1, "default", slots=1, kinds=KINDS)).jobs[0]  # fmt: skip
    assert job.partition_key == "a"
    await Attempt(job, database).cool_down(MINUTE)
    taken = (await engine.claim_limited(1, "default", slots=10, kinds=KINDS)).jobs
    assert "a" not in [other.partition_key for other in taken]
    assert "b" in [other.partition_key for other in taken]


async def test_a_handler_cools_its_whole_queue_down(database: Database) -> None:
    await add(database, NewJob("work"), NewJob("work"), NewJob("work", queue="other"))
    engine = PostgresEngine(database)
    job = (await engine.claim(1, slots=1, kinds=KINDS, queues=["default"]))[0]
    await Attempt(job, database).cool_down(MINUTE)
    assert [other.queue for other in await engine.claim(1, slots=9, kinds=KINDS, queues=None)] == ["other"]
    assert await engine.next_due(None) == pytest.approx(60, abs=2)


async def test_a_job_settles_its_weight(database: Database) -> None:
    await stop_the_clock(database)
    await set_limits(database, "default", Limits(rate=Rate(10, MINUTE)))
    await add(database, NewJob("work", weight=8), NewJob("work", weight=5))
    engine = PostgresEngine(database)
    [job] = (await engine.claim_limited(1, "default", slots=9, kinds=KINDS)).jobs
    await Attempt(job, database).settle_weight(3)
    assert len((await engine.claim_limited(1, "default", slots=9, kinds=KINDS)).jobs) == 1
