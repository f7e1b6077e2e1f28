"""Connections break, the server restarts: workers go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import add, query, row, states
from support.scratch_server import ScratchServer
from support.working import AT_ONCE, running

from docyard_queue import NewJob, PostgresEngine, Registry
from docyard_schema import Database, DatabaseSettings
from docyard_workers.process import Worker, WorkerOptions
from docyard_workers.process import worker as worker_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from docyard_queue import Job

TERMINATE = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def counting() -> tuple[Registry, list[int]]:
    registry, seen = Registry(), []

    @registry.handler("work", max_attempts=5, backoff=AT_ONCE)
    async def handler(attempt: Any, payload: Any) -> None:
        seen.append(attempt.job.id)
        await asyncio.sleep(payload.get("seconds", 0))

    return registry, seen


@pytest.mark.fault(5)
async def test_a_terminated_listener_listens_again_and_looks_once_at_once(database: Database) -> None:
    registry, seen = counting()
    async with running(database, registry, poll_seconds=60):
        await eventually(lambda: listening(database))
        await query(database, f"{TERMINATE} AND query LIKE 'LISTEN%%'")
        # Nobody hears of this one.
        first = await add(database)
        await eventually(lambda: seen == first, seconds=5)
        await eventually(lambda: listening(database))
        second = await add(database)
        await eventually(lambda: seen == first + second, seconds=5)


async def listening(database: Database) -> bool:
    found = await query(
        database,
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%%' AND state = 'idle'",
    )
    return len(found) == 1


@pytest.mark.fault(5)
async def test_every_connection_may_be_terminated(database: Database) -> None:
    registry, seen = counting()
    ids = await add(database, *[NewJob("work", {"seconds": 0.05}) for _ in range(100)])
    async with running(database, registry, poll_seconds=0.5, heartbeat_seconds=0.2) as worker:
        for round_ in range(1, 5):
            await eventually(lambda round_=round_: len(seen) >= round_ * 15)
            await eventually(lambda: terminated(database))
        await eventually(lambda: settled(database))
    assert set(seen) == set(ids)
    assert await states(database) == ["completed"] * 100
    assert worker.failed == 0


async def terminated(database: Database) -> bool:
    # The test asks through the same pool, and may be given a connection that is ending this very moment.
    with suppress(psycopg.OperationalError):
        await query(database, TERMINATE)
        return True
    return False


async def settled(database: Database) -> bool:
    with suppress(psycopg.OperationalError):
        return set(await states(database)) == {"completed"}
    return False


@pytest.fixture
async def scratch() -> AsyncIterator[ScratchServer]:
    server = await asyncio.to_thread(lambda: ScratchServer().start())
    async with await Database.connect(server.url()) as database:
        await database.initialize(migrate_schema=True)
    yield server
    await asyncio.to_thread(server.remove)


@pytest.mark.slow
@pytest.mark.fault(4)
async def test_a_server_that_restarts_again_and_again_loses_and_doubles_nothing(
    scratch: ScratchServer, start: Callable[..., Any]
) -> None:
    async with await Database.connect(scratch.url()) as database:
        await query(database, "CREATE TABLE public.effects (job_id bigint, pid int)")
        ids = await add(database, *[NewJob("effect", {"seconds": 0.02}, max_attempts=50) for _ in range(300)])
    workers = [start(scratch.url(), concurrency=5) for _ in range(2)]
    await eventually(lambda: all("worker.started" in worker.log for worker in workers), seconds=30)

    async def done() -> int:
        async with await Database.connect(scratch.url()) as watching:
            [found] = await query(watching, "SELECT count(*) FROM public.effects")
            return int(found["count"])

    async def reached(wanted: int) -> bool:
        return await done() >= wanted

    for wanted in (40, 100):
        await eventually(lambda wanted=wanted: reached(wanted), seconds=30)
        await asyncio.to_thread(lambda: scratch.stop(immediate=True))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(scratch.start)
    await eventually(lambda: reached(300), seconds=60)
    async with await Database.connect(scratch.url()) as database:
        await eventually(lambda: settled(database))
        effects = await query(database, "SELECT job_id FROM public.effects ORDER BY 1")
        assert [found["job_id"] for found in effects] == ids
        assert max([(await row(database, job_id))["attempts"] for job_id in ids]) <= 5
    assert [worker.ended() for worker in workers] == [False, False], "they lived through it"
    assert [worker.stop() for worker in workers] == [0, 0]


@pytest.mark.parametrize("draining", [False, True], ids=["run", "drain"])
async def test_a_stop_during_an_outage_does_not_wait_for_a_connection(
    scratch: ScratchServer, draining: bool
) -> None:
    settings = DatabaseSettings(pool_acquire_seconds=120)
    options = WorkerOptions(poll_seconds=0.05, shutdown_seconds=1)
    registry, _ = counting()
    async with await Database.connect(scratch.url(), settings=settings) as database:
        async with Worker(database, registry, options) as worker:
            await add(database, NewJob("work", {"seconds": 0.5}))
            working = asyncio.create_task(worker.drain() if draining else worker.run())
            await asyncio.to_thread(lambda: scratch.stop(immediate=True))
            await eventually(lambda: database.pool.get_stats()["requests_waiting"], what="a claim to wait")
            async with asyncio.timeout(10):
                worker.stop()
                await working
            left = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - left < 40


async def test_a_stop_lets_a_claim_that_is_on_its_way_arrive(database: Database) -> None:
    class Slow(PostgresEngine):
        async def claim(self, *arguments: Any, **options: Any) -> list[Job]:
            found = await super().claim(*arguments, **options)
            claimed.set()
            await asyncio.sleep(0.3)
            return found

    registry, seen = counting()
    claimed = asyncio.Event()
    [job_id] = await add(database)
    async with Worker(database, registry, engine=Slow(database)) as worker:
        working = asyncio.create_task(worker.run())
        await claimed.wait()
        worker.stop()
        await working
    assert seen == [job_id]
    assert await states(database) == ["completed"]


async def test_jobs_of_a_claim_that_a_stop_cut_off_are_given_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(PostgresEngine):
        async def claim(self, *arguments: Any, **options: Any) -> list[Job]:
            found = await super().claim(*arguments, **options)
            claimed.set()
            await asyncio.sleep(60)
            return found

    monkeypatch.setattr(worker_module, "_LAST_CLAIM_SECONDS", 0.05)
    registry, seen = counting()
    claimed = asyncio.Event()
    [job_id] = await add(database)
    async with asyncio.timeout(20), Worker(database, registry, engine=Hanging(database)) as worker:
        working = asyncio.create_task(worker.run())
        await claimed.wait()
        worker.stop()
        worker.stop()
        await working
    assert seen == []
    again = await row(database, job_id)
    assert (again["status"], again["attempts"]) == ("todo", 0)
