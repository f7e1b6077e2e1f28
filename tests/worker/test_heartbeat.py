"""The heartbeat is apart from all that can keep a worker busy."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import opened
from support.eventually import eventually
from support.queueing import add, query, state
from support.scratch_server import ScratchServer
from support.working import running

from docyard_queue import Inspection, Registry
from docyard_queue.heartbeat import Heartbeat
from docyard_schema import Database
from docyard_schema.errors import DatabaseUnavailable
from docyard_workers.process import Worker

if TYPE_CHECKING:
    from docyard_queue import WorkerRow


def a_heartbeat(database: Database, seconds: float = 0.1, cancelled: list[int] | None = None) -> Heartbeat:
    told = [] if cancelled is None else cancelled
    return Heartbeat(database, queues=["a"], seconds=seconds, on_cancel=told.extend)


async def beating(database: Database) -> WorkerRow:
    """The one worker, after it has beaten once more."""
    [first] = await Inspection(database).workers()

    async def beaten() -> WorkerRow | None:
        found = await Inspection(database).workers()
        return found[0] if found and found[0].heartbeat_at > first.heartbeat_at else None

    return await eventually(beaten)  # type: ignore[no-any-return]


async def test_it_registers_beats_and_signs_off(database: Database) -> None:
    heart = a_heartbeat(database)
    heart.start()
    shown = await beating(database)
    assert (shown.id, shown.queues, shown.state) == (heart.worker_id, ["a"], "running")
    heart.stopping()
    await eventually(lambda: is_shown_as(database, "stopping"))
    await asyncio.to_thread(heart.stop)
    assert await Inspection(database).workers() == []


async def is_shown_as(database: Database, wanted: str) -> bool:
    return [worker.state for worker in await Inspection(database).workers()] == [wanted]


@pytest.mark.fault(7)
async def test_it_beats_while_the_pool_is_exhausted(url: str) -> None:
    async with (
        opened(url, pool_max_size=1, pool_acquire_seconds=0.5) as database,
        opened(url) as watcher,
        running(database, Registry(), heartbeat_seconds=0.1),
        database.connection(),
    ):
        await beating(watcher)


@pytest.mark.fault(3)
async def test_it_beats_while_the_event_loop_is_blocked(database: Database) -> None:
    async with running(database, Registry(), heartbeat_seconds=0.1):
        [before] = await Inspection(database).workers()
        time.sleep(1)
        rows = await query(
            database, "SELECT last_heartbeat > %s + interval '0.5 s' AS beaten "
            "FROM docyard.procrastinate_workers",
            before.heartbeat_at,
        )  # fmt: skip
    assert rows == [{"beaten": True}]


async def test_a_worker_whose_row_was_deleted_comes_back_under_its_number(database: Database) -> None:
    registry = Registry()
    registry.handler("work")(lambda attempt, payload: None)
    async with running(database, registry, heartbeat_seconds=0.1) as worker:
        [before] = await Inspection(database).workers()
        await query(database, "DELETE FROM docyard.procrastinate_workers")
        [after] = await eventually(lambda: Inspection(database).workers())
        assert (after.id, after.pid) == (before.id, before.pid)
        [job_id] = await add(database)
        await eventually(lambda: worker.completed == 1)
        assert await state(database, job_id) == "completed"


@pytest.mark.fault(5)
async def test_it_beats_again_after_its_connection_was_terminated(database: Database) -> None:
    heart = a_heartbeat(database)
    heart.start()
    await beating(database)
    assert heart.steady
    await query(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE '%%beaten%%' AND pid <> pg_backend_pid()",
    )
    await eventually(lambda: not heart.steady, what="the missed beat to be noticed")
    await beating(database)
    await eventually(lambda: heart.steady)
    await asyncio.to_thread(heart.stop)


async def test_a_beat_that_hangs_is_given_up(database: Database) -> None:
    heart = a_heartbeat(database, seconds=0.2)
    heart.start()
    await beating(database)
    async with database.transaction() as connection:
        await connection.execute(database.sql("SELECT FROM docyard.procrastinate_workers FOR UPDATE"))
        await eventually(lambda: not heart.steady, what="the statement's time limit")
    await beating(database)
    await asyncio.to_thread(heart.stop)


async def test_it_tells_of_cancels(database: Database) -> None:
    cancelled: list[int] = []
    heart = a_heartbeat(database, cancelled=cancelled)
    heart.start()
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, status, abort_requested, worker_id) "
        "VALUES ('q', 'k', 'doing', true, %s)", heart.worker_id,
    )  # fmt: skip
    await eventually(lambda: cancelled)
    assert set(cancelled) == {1}
    await asyncio.to_thread(heart.stop)


async def test_without_a_database_it_neither_starts_nor_hangs_at_the_stop() -> None:
    server = await asyncio.to_thread(lambda: ScratchServer().start())
    try:
        async with await Database.connect(server.url()) as database:
            await database.initialize(migrate_schema=True)
            heart = a_heartbeat(database)
            heart.start()
            await beating(database)
            await asyncio.to_thread(lambda: server.stop(immediate=True))
            before = time.monotonic()
            await asyncio.to_thread(heart.stop)
            assert time.monotonic() - before < 3
            with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1"):
                a_heartbeat(database).start()
            with pytest.raises(DatabaseUnavailable):
                await Worker(database, Registry()).__aenter__()
    finally:
        await asyncio.to_thread(server.remove)


async def test_an_applications_own_pool_is_enough(url: str) -> None:
    from psycopg_pool import AsyncConnectionPool

    registry, seen = Registry(), []

    @registry.handler("work")
    def handler(attempt: Any, payload: Any) -> None:
        with attempt.commit_sync():
            seen.append(attempt.job.id)

    async with AsyncConnectionPool(url, min_size=1, max_size=4, open=False) as pool:
        database = await Database.from_pool(pool)
        [job_id] = await add(database)
        async with running(database, registry, poll_seconds=60):
            await eventually(lambda: seen)
    assert seen == [job_id]
