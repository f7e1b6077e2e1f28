"""Workers fire schedules: together each moment once, whatever their own clocks say."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from conftest import opened
from support.eventually import eventually
from support.queueing import query
from support.scratch_server import ScratchServer
from support.working import running

from docyard_queue import Registry
from docyard_schema import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def ticking() -> tuple[Registry, list[datetime]]:
    """A schedule that fires every second, and the moments that were run."""
    registry, seen = Registry(), []

    @registry.schedule("tick", cron="* * * * * *", missed="all")
    async def tick(attempt: Any, payload: Any) -> None:
        seen.append(datetime.fromisoformat(payload["fire_time"]))

    return registry, seen


@pytest.mark.fault(9)
async def test_three_workers_run_each_moment_once(url: str) -> None:
    registry, seen = ticking()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            database = await stack.enter_async_context(opened(url))
            await stack.enter_async_context(running(database, registry))
        await eventually(lambda: len(seen) >= 3)
    assert len(set(seen)) == len(seen)
    whole = range(len(seen))
    assert sorted(int((moment - min(seen)).total_seconds()) for moment in seen) == [*whole]


@pytest.mark.fault(8)
async def test_a_worker_whose_clock_is_an_hour_wrong_fires_by_the_databases(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS, the queue, 8."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    registry, seen = ticking()
    async with running(database, registry):
        await eventually(lambda: len(seen) >= 2)
    assert abs(seen[0] - datetime.fromtimestamp(right(), UTC)).total_seconds() < 60


async def test_a_worker_that_comes_back_goes_on_where_it_stopped(database: Database) -> None:
    registry, seen = ticking()
    async with running(database, registry):
        await eventually(lambda: len(seen) >= 1)
    await asyncio.sleep(1.1)
    async with running(database, registry):
        await eventually(lambda: len(seen) >= 4)
    whole = range(len(seen))
    assert sorted(int((moment - min(seen)).total_seconds()) for moment in seen) == [*whole]


async def test_a_registry_without_schedules_asks_nothing(database: Database) -> None:
    registry = Registry()
    registry.handler("work")(lambda attempt, payload: None)
    async with running(database, registry):
        pass
    assert await query(database, "SELECT 1 FROM docyard.procrastinate_periodic_defers") == []


@pytest.fixture
async def scratch() -> AsyncIterator[ScratchServer]:
    server = await asyncio.to_thread(lambda: ScratchServer().start())
    async with await Database.connect(server.url()) as database:
        await database.initialize(migrate_schema=True)
    yield server
    await asyncio.to_thread(server.remove)


@pytest.mark.slow
@pytest.mark.fault(4)
async def test_no_moment_comes_twice_over_restarts_of_postgres(scratch: ScratchServer) -> None:
    """FAULTS, the queue, 4."""
    registry, seen = ticking()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            database = await stack.enter_async_context(await Database.connect(scratch.url()))
            await stack.enter_async_context(running(database, registry, heartbeat_seconds=0.5))
        for _ in range(2):
            before = len(seen)
            await eventually(lambda before=before: len(seen) >= before + 2, seconds=30)
            await asyncio.to_thread(lambda: scratch.stop(immediate=True))
            await asyncio.to_thread(scratch.start)
        before = len(seen)
        await eventually(lambda before=before: len(seen) >= before + 2, seconds=30)
    async with await Database.connect(scratch.url()) as database:
        jobs = await query(database, "SELECT args ->> 'fire_time' AS moment FROM docyard.procrastinate_jobs")
    moments = [datetime.fromisoformat(job["moment"]) for job in jobs]
    assert len(set(moments)) == len(moments)
    assert set(seen) <= set(moments)
    # With "all" none is lost either.
    assert int((max(moments) - min(moments)).total_seconds()) + 1 == len(moments)
