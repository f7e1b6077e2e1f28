"""Workers keep to limits together, and none of their jobs is forgotten."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, query, states
from support.working import AT_ONCE, drain, running

from docyard_queue import Attempt, NewJob, QueueFull, Registry
from docyard_queue.limits import Limits, Rate, set_limits

if TYPE_CHECKING:
    from docyard_schema import Database


class Concurrent:
    """A handler that knows the most that ever ran at once, for all and for each key."""

    def __init__(self, seconds: float = 0.005) -> None:
        self.registry = Registry()
        self.most: dict[Any, int] = {}
        self.now: dict[Any, int] = {}
        self.order: list[Any] = []
        self.started: list[float] = []

        @self.registry.handler("work", backoff=AT_ONCE)
        async def work(attempt: Attempt, payload: dict[str, Any]) -> None:
            self.order.append(attempt.job.partition_key or attempt.job.queue)
            self.started.append(time.monotonic())
            for name in ("all", attempt.job.partition_key):
                self.now[name] = self.now.get(name, 0) + 1
                self.most[name] = max(self.most.get(name, 0), self.now[name])
            await asyncio.sleep(seconds)
            for name in ("all", attempt.job.partition_key):
                self.now[name] -= 1


async def both(database: Database, registry: Registry, **options: Any) -> None:
    await asyncio.gather(drain(database, registry, **options), drain(database, registry, **options))


async def test_two_workers_keep_to_a_concurrency_limit_and_end_all_jobs(database: Database) -> None:
    handler = Concurrent()
    await set_limits(database, "default", Limits(concurrency=3))
    await add(database, *[NewJob("work") for _ in range(60)])
    await both(database, handler.registry)
    assert handler.most["all"] == 3
    assert set(await states(database)) == {"completed"}


async def test_two_workers_keep_to_a_limit_per_key(database: Database) -> None:
    handler = Concurrent()
    await set_limits(database, "default", Limits(key_concurrency=2))
    await add(database, *[NewJob("work", partition_key=f"k{n % 3}") for n in range(60)])
    await both(database, handler.registry)
    assert {handler.most[f"k{n}"] for n in range(3)} == {2}
    assert set(await states(database)) == {"completed"}


async def test_a_rate_is_waited_for_without_polling(database: Database) -> None:
    handler = Concurrent(0)
    await set_limits(database, "default", Limits(rate=Rate(5, timedelta(seconds=0.5))))
    await add(database, *[NewJob("work") for _ in range(10)])
    async with asyncio.timeout(4):
        await drain(database, handler.registry, poll_seconds=60)
    assert handler.started[-1] - handler.started[0] > 0.4


async def test_a_queue_without_limits_does_not_starve_one_that_has_and_is_not_starved(
    database: Database,
) -> None:
    handler = Concurrent(0)
    await set_limits(database, "limited", Limits(concurrency=50))
    await add(database, *[NewJob("work") for _ in range(300)])
    await add(database, *[NewJob("work", queue="limited") for _ in range(300)])
    await drain(database, handler.registry, concurrency=10)
    halfway = handler.order[:300]
    assert 60 < halfway.count("limited") < 240, halfway.count("limited")


async def test_an_upload_passes_a_backfill_of_thousands(database: Database) -> None:
    handler = Concurrent(0)
    await add(database, *[NewJob("work", partition_key="backfill") for _ in range(2000)])
    await add(database, NewJob("work", partition_key="upload"))
    await drain(database, handler.registry, concurrency=10)
    assert handler.order.index("upload") < 40
    assert set(await states(database)) == {"completed"}


async def test_scheduled_jobs_begin_at_their_time_and_not_at_the_next_poll(database: Database) -> None:
    registry, begun = Registry(), asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Attempt, payload: dict[str, Any]) -> None:
        begun.set()

    async with running(database, registry, poll_seconds=60):
        from datetime import UTC, datetime

        await add(database, run_at=datetime.now(UTC) + timedelta(seconds=0.7))
        async with asyncio.timeout(5):
            await begun.wait()


@pytest.mark.fault(24)
async def test_a_lock_that_frees_in_one_worker_wakes_another_that_serves_the_next_job(
    database: Database,
) -> None:
    registry, begun = Registry(), asyncio.Event()
    release = asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Attempt, payload: dict[str, Any]) -> None:
        if attempt.job.queue == "first":
            await release.wait()
        else:
            begun.set()

    await add(
        database, NewJob("work", queue="first", lock_key="l"), NewJob("work", queue="second", lock_key="l")
    )
    async with (
        running(database, registry, queues=["first"], poll_seconds=60),
        running(database, registry, queues=["second"], poll_seconds=60),
    ):
        await eventually(lambda: _running_one(database))
        await asyncio.sleep(0.2)
        release.set()
        async with asyncio.timeout(5):
            await begun.wait()


async def _running_one(database: Database) -> bool:
    return (await states(database))[0] == "running"


async def test_a_place_in_a_limit_that_frees_in_one_worker_wakes_another(database: Database) -> None:
    registry = Registry()
    release, second = asyncio.Event(), asyncio.Event()

    @registry.handler("slow")
    async def slow(attempt: Attempt, payload: dict[str, Any]) -> None:
        await release.wait()

    other = Registry()

    @other.handler("quick")
    async def quick(attempt: Attempt, payload: dict[str, Any]) -> None:
        second.set()

    await set_limits(database, "default", Limits(concurrency=1))
    await add(database, NewJob("slow", priority=1), NewJob("quick"))
    async with running(database, registry, poll_seconds=60):
        await eventually(lambda: _running_one(database))
        async with running(database, other, poll_seconds=60):
            await asyncio.sleep(0.3)
            assert not second.is_set()
            release.set()
            async with asyncio.timeout(5):
                await second.wait()


async def test_a_full_queue_refuses_and_a_handler_that_meets_it_waits(database: Database) -> None:
    await set_limits(database, "full", Limits(max_depth=3))
    await add(database, *[NewJob("other", queue="full") for _ in range(3)])
    with pytest.raises(QueueFull, match="Queue full is full: it has 3 waiting jobs") as refused:
        await add(database, NewJob("other", queue="full"))
    assert "docyard queues limit full --depth" in refused.value.hint
    registry = Registry()

    @registry.handler("work", backoff=AT_ONCE, max_attempts=2)
    async def work(attempt: Attempt, payload: dict[str, Any]) -> None:
        if attempt.number == 1:
            async with attempt.commit() as connection:
                await attempt.enqueue(NewJob("other", queue="full"), connection=connection)

    [job_id] = await add(database)
    async with running(database, registry, queues=["default"]):
        await eventually(lambda: _snoozed(database, job_id))
        await set_limits(database, "full", Limits())
        await eventually(lambda: _completed(database, job_id))


async def _snoozed(database: Database, job_id: int) -> bool:
    from support.queueing import attempts

    return any(one["outcome"] == "snoozed" for one in await attempts(database, job_id))


async def _completed(database: Database, job_id: int) -> bool:
    from support.queueing import state

    return await state(database, job_id) == "completed"


async def test_a_bulk_that_would_fill_a_queue_is_refused_as_a_whole(database: Database) -> None:
    await set_limits(database, "full", Limits(max_depth=5))
    with pytest.raises(QueueFull):
        await add(database, *[NewJob("other", queue="full") for _ in range(6)])
    assert await states(database) == []


async def test_a_stream_of_urgent_jobs_does_not_starve_an_old_one(database: Database) -> None:
    handler = Concurrent(0)
    await add(database, NewJob("work", queue="old", priority=-1))
    await query(database, "UPDATE docyard.procrastinate_jobs SET created_at = now() - interval '1 hour'")
    await add(database, *[NewJob("work") for _ in range(2000)])
    await drain(database, handler.registry, concurrency=5)
    assert handler.order.index("old") < 1000


async def test_a_trickle_of_other_jobs_does_not_hide_those_of_a_limited_queue(database: Database) -> None:
    handler = Concurrent(0)
    await set_limits(database, "limited", Limits(concurrency=5))
    async with running(database, handler.registry, poll_seconds=60):
        for _ in range(20):
            await add(database)
            await asyncio.sleep(0.01)
        await add(database, NewJob("work"), NewJob("work", queue="limited"))
        await eventually(lambda: _ended(database))
    assert "limited" in handler.order


async def _ended(database: Database) -> bool:
    return set(await states(database)) == {"completed"}
