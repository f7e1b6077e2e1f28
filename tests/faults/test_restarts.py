"""Line 4: Postgres restarts, immediately, again and again, under workers that are busy."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import query
from support.scratch_server import ScratchServer
from support.storm import LONG, charged, exactly_once, is_over, prepare, storm

from docyard_queue import listener
from docyard_schema import Database
from docyard_schema.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.fault(4)]

CHARGES, RESTARTS = (1000, 12) if LONG else (200, 3)


@pytest.fixture
async def scratch() -> AsyncIterator[ScratchServer]:
    server = await asyncio.to_thread(lambda: ScratchServer().start())
    async with await Database.connect(server.url()) as database:
        await database.initialize(migrate_schema=True)
    yield server
    await asyncio.to_thread(server.remove)


async def test_workers_survive_and_no_effect_and_no_cron_tick_is_lost_or_comes_twice(
    scratch: ScratchServer, tmp_path: Path
) -> None:
    chance = random.Random(4)
    async with await Database.connect(scratch.url()) as database:
        await prepare(database, CHARGES)
        with storm(scratch.url(), tmp_path, workers=2, heartbeat_seconds=2) as raging:
            await eventually(lambda: charged(database), seconds=60, what="the first effect")
            for _ in range(RESTARTS):
                await asyncio.sleep(chance.uniform(0.3, 1.2))
                await asyncio.to_thread(scratch.stop, immediate=True)
                await asyncio.sleep(chance.uniform(0, 0.8))
                await asyncio.to_thread(scratch.start)
            await eventually(lambda: undisturbed(is_over(database)), seconds=90)
            assert raging.all_live, raging.logs
            await eventually(lambda: has_ticked(database))
            assert raging.stop() == [0, 0]
        await exactly_once(database, CHARGES)
        crashed = await query(database, "SELECT 1 FROM docyard.attempts WHERE outcome = 'crashed'")
        assert crashed == [], "a restart of the server is nobody's crash"
        await every_moment_was_fired_once(database)


async def has_ticked(database: Database) -> bool:
    """Whether a moment was run since the last restart."""
    return bool(
        await query(
            database,
            "SELECT 1 FROM public.ticks WHERE fire_time::timestamptz > pg_postmaster_start_time() LIMIT 1",
        )
    )


async def every_moment_was_fired_once(database: Database) -> None:
    jobs = await query(database, "SELECT args ->> 'fire_time' AS moment FROM docyard.procrastinate_jobs "
                                 "WHERE task_name = 'tick'")  # fmt: skip
    moments = [datetime.fromisoformat(job["moment"]) for job in jobs]
    assert len(set(moments)) == len(moments), "a moment came twice"
    assert int((max(moments) - min(moments)).total_seconds()) + 1 == len(moments), "a moment was lost"
    twice = await query(database, "SELECT job_id FROM public.ticks GROUP BY job_id HAVING count(*) > 1")
    assert twice == []


async def undisturbed(asking: Any) -> bool:
    with suppress(psycopg.OperationalError, DatabaseUnavailable):
        return bool(await asking)
    return False


async def test_many_that_lost_their_connections_do_not_come_back_in_one_moment(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def refused() -> AsyncIterator[Any]:
        tried.append(loop.time())
        raise DatabaseUnavailable("The server is away.", operation="connect", reason="")
        yield

    monkeypatch.setattr(database, "dedicated", refused)
    begun = loop.time()
    listeners = [
        asyncio.create_task(listener.listen(database, on_job=lambda: None, on_cancel=lambda _: None))
        for _ in range(100)
    ]
    await eventually(lambda: len(tried) >= 200, what="each to try again")
    for task in listeners:
        task.cancel()
    again = sorted(when - begun for when in tried[100:200])
    assert again[0] >= 0.1
    busiest = max(sum(1 for when in again if start <= when < start + 0.1) for start in again)
    assert busiest <= 40, "they come in a crowd"
