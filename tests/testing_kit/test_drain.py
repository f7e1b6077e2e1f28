"""drain() runs what can run, in this process, and says what became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.queueing import add, query, state, states

from docyard.testing import AT_ONCE, assert_enqueued, drain, freeze
from docyard_queue import NewJob, QueueError, Registry, create_batch
from docyard_queue.limits import Limits, Rate, set_limits
from docyard_queue.queues import pause

if TYPE_CHECKING:
    from testing_kit.conftest import Effects

    from docyard_schema import Database

NOW = datetime(2030, 1, 1, tzinfo=UTC)


async def test_it_runs_jobs_and_what_they_enqueue(database: Database, effects: Effects) -> None:
    await add(database, *[NewJob("charge", {"order": order}, queue="billing") for order in (7, 8)])
    drained = await drain(database, effects.registry)
    assert (drained.done, drained.failed, drained.errors) == (4, 0, [])
    assert [attempt.job.kind for attempt in drained.attempts] == ["charge", "charge", "receipt", "receipt"]
    assert await effects.rows() == [7, 8]
    assert await states(database) == ["completed"] * 4
    assert repr(drained.require_no_errors()) == "<Drained done 4>"
    assert await query(database, "SELECT FROM docyard.procrastinate_workers") == []


async def test_what_waits_is_left(database: Database, effects: Effects) -> None:
    effects.problems = [ZeroDivisionError("by zero")]
    await add(
        database,
        effects.registry.job("charge", {"order": 7}),
        effects.registry.job("receipt", {}, run_at=datetime.now(UTC) + timedelta(days=1)),
        NewJob("of another registry"),
        effects.registry.job("snooze"),
    )
    drained = await drain(database, effects.registry)
    assert (drained.done, drained.failed, drained.dead, drained.snoozed) == (0, 1, 0, 1)
    assert await states(database) == ["retryable", "scheduled", "available", "scheduled"]
    [error] = drained.errors
    assert (error.job.kind, error.delay) == ("charge", timedelta(minutes=1))
    with pytest.raises(AssertionError, match="ZeroDivisionError: by zero"):
        drained.require_no_errors()


async def test_a_backoff_of_zero_tries_again_at_once(database: Database, effects: Effects) -> None:
    effects.problems = [ZeroDivisionError(), ZeroDivisionError()]
    await add(database, effects.registry.job("charge", {"order": 7}))
    drained = await drain(database, effects.registry, backoff=AT_ONCE)
    assert (drained.done, drained.failed, effects.begun) == (2, 2, [1, 2, 3, -3])
    assert await effects.rows() == [7]


async def test_it_comes_to_an_end_with_the_attempts(database: Database, effects: Effects) -> None:
    effects.problems = [ZeroDivisionError() for _ in range(9)]
    [job_id] = await add(database, effects.registry.job("charge", {"order": 7}))
    drained = await drain(database, effects.registry, backoff=AT_ONCE)
    assert (drained.failed, drained.dead) == (3, 1)
    assert await state(database, job_id) == "dead"


async def test_with_scheduled_jobs_the_clock_goes_on(database: Database, effects: Effects) -> None:
    effects.problems = [ZeroDivisionError(), ZeroDivisionError()]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await add(
        database,
        effects.registry.job("charge", {"order": 7}, run_at=tomorrow),
        effects.registry.job("snooze"),
    )
    drained = await drain(database, effects.registry, with_scheduled=True)
    assert (drained.done, drained.failed, drained.snoozed) == (3, 2, 2)
    assert set(await states(database)) == {"completed"}
    begun = [attempt.job.started_at for attempt in drained.attempts if attempt.job.kind == "charge"]
    # The backoff's minute, and two.
    assert begun == [tomorrow, tomorrow + timedelta(minutes=1), tomorrow + timedelta(minutes=3)]
    # Only for as long as it took.
    [now] = await query(database, "SELECT docyard.clock() AS now")
    assert now["now"] < tomorrow


async def test_with_scheduled_jobs_a_frozen_clock_is_moved(database: Database, effects: Effects) -> None:
    with freeze(database, NOW) as clock:
        await add(database, NewJob("receipt", {"order": 7}, run_at=NOW + timedelta(hours=3), unique_key="k"))
        assert (await drain(database, effects.registry)).done == 0
        assert (await drain(database, effects.registry, with_scheduled=True)).done == 1
        assert clock.now == NOW + timedelta(hours=3)


async def test_a_paused_queue_is_left_even_by_the_clock(database: Database, effects: Effects) -> None:
    await pause(database, "default")
    await add(database, NewJob("receipt", {"order": 7}), NewJob("receipt", run_at=NOW))
    assert (await drain(database, effects.registry, with_scheduled=True)).attempts == []


async def test_only_the_queues_that_are_named(database: Database, effects: Effects) -> None:
    await add(database, effects.registry.job("charge", {"order": 7}))
    assert (await drain(database, effects.registry, queues=["billing"])).done == 1
    assert_enqueued(database, "receipt")


async def test_queues_with_limits_and_partitions_are_drained(database: Database, effects: Effects) -> None:
    await set_limits(database, "slow", Limits(concurrency=1))
    await add(database, *[NewJob("receipt", {"order": n}, queue="slow") for n in (1, 2)])
    await add(database, *[NewJob("receipt", {"order": n}, partition_key=f"customer {n}") for n in (3, 4, 5)])
    assert (await drain(database, effects.registry)).done == 5
    assert set(await states(database)) == {"completed"}


async def test_what_a_rate_holds_back_waits_for_the_clock(database: Database, effects: Effects) -> None:
    await set_limits(database, "default", Limits(rate=Rate(1, timedelta(hours=1))))
    with freeze(database, NOW) as clock:
        await add(database, *[NewJob("receipt", {"order": n}) for n in range(4)])
        assert (await drain(database, effects.registry)).done == 1
        assert (await drain(database, effects.registry, with_scheduled=True)).done == 3
        assert timedelta(hours=3) <= clock.now - NOW < timedelta(hours=3, minutes=1)


async def test_what_a_cool_down_holds_back_waits_for_the_clock(database: Database) -> None:
    registry, began = Registry(), []

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        began.append(attempt.job.started_at)
        await attempt.cool_down(timedelta(hours=1), whole_queue=True)

    with freeze(database, NOW):
        await add(database, NewJob("work"), NewJob("work"))
        assert (await drain(database, registry)).done == 1
        assert (await drain(database, registry, with_scheduled=True)).done == 1
    assert began == [NOW, NOW + timedelta(hours=1)]


async def test_a_batch_ends_with_its_callback(database: Database, effects: Effects) -> None:
    batch = await create_batch(database, "b", NewJob("receipt", {"order": 9}))
    await add(database, *[NewJob("receipt", {"order": n}, batch_id=batch) for n in (7, 8)])
    drained = await drain(database, effects.registry)
    assert [attempt.result["printed"] for attempt in drained.attempts] == [7, 8, 9]


async def test_schedules_that_are_due_fire(database: Database) -> None:
    registry = Registry()
    fired: list[str] = []

    @registry.schedule("nightly", cron="0 3 * * *")
    async def nightly(attempt: Any, payload: dict[str, Any]) -> None:
        fired.append(payload["fire_time"])

    with freeze(database, NOW) as clock:
        await drain(database, registry)
        clock.advance(timedelta(days=1))
        await drain(database, registry)
    assert fired == ["2030-01-01T03:00:00+00:00"]


async def test_what_never_ends_is_told_of(database: Database) -> None:
    registry = Registry()

    @registry.handler("again")
    async def again(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            await attempt.enqueue(NewJob("again"), connection=connection)

    await add(database, NewJob("again"))
    with pytest.raises(QueueError, match="has run 5 attempts and there are more: <Drained done 5>"):
        await drain(database, registry, limit=5)
    # It is given back as it was.
    assert_enqueued(database, "again", count=1)
