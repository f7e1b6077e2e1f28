"""Line 11: somebody LISTENs in a transaction that stays open, and the queue of notices fills up."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import add, state, states
from support.scratch_server import ScratchServer
from support.working import AT_ONCE, running

from docyard_queue import Inspection, NewJob, Registry, create_batch, enqueue, pause_batch, resume_batch
from docyard_queue.queues import pause, resume
from docyard_queue.selection import Change, Selection, change_selected
from docyard_schema import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.fault(11)]

# Pages of 8 kB; by default it is a million of them. 64 is the least.
PAGES = 64


@pytest.fixture(scope="module")
def scratch() -> Iterator[ScratchServer]:
    server = ScratchServer(max_notify_queue_pages=PAGES).start()
    yield server
    server.remove()


@pytest.fixture
async def database(scratch: ScratchServer) -> AsyncIterator[Database]:
    """A database on a server whose queue of notices is full."""
    await asyncio.to_thread(scratch.execute, "CREATE DATABASE noisy")
    async with await Database.connect(scratch.local_url("noisy")) as connected:
        await connected.initialize(migrate_schema=True)
        with psycopg.connect(scratch.local_url("noisy"), autocommit=True) as deaf:
            deaf.execute("LISTEN something")
            deaf.execute("BEGIN")
            deaf.execute("SELECT 1")
            fill(scratch)
            yield connected
            deaf.execute("ROLLBACK")
    await asyncio.to_thread(scratch.execute, "DROP DATABASE noisy WITH (FORCE)")


def fill(scratch: ScratchServer) -> None:
    """Notify until Postgres refuses."""
    with psycopg.connect(scratch.local_url("noisy"), autocommit=True) as connection:
        # Asking moves the tail on past what everybody has read; a full queue may be so only for want of that.
        connection.execute("SELECT pg_notification_queue_usage()")
        for size in (7000, 100):
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="too many notifications"):
                notify_for_ever(connection, size)
        usage = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
        assert usage is not None
        assert usage[0] > 0.9


def notify_for_ever(connection: psycopg.Connection[Any], size: int) -> None:
    for number in itertools.count():
        connection.execute("SELECT pg_notify('something', %s)", [f"{number:<{size}}"])


def counting() -> tuple[Registry, list[int]]:
    registry, seen = Registry(), []

    @registry.handler("work", max_attempts=3, backoff=AT_ONCE)
    async def work(attempt: Any, payload: Any) -> None:
        seen.append(attempt.job.id)
        await asyncio.sleep(payload.get("seconds", 0))
        if attempt.number == 1 and payload.get("fails"):
            raise ConnectionResetError

    @registry.handler("commit")
    async def commit(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            await attempt.enqueue(NewJob("work"), connection=connection)

    return registry, seen


async def test_enqueueing_never_fails_for_it(database: Database, scratch: ScratchServer) -> None:
    await add(database)
    await add(database, *[NewJob("work", queue=f"q{number}") for number in range(100)])
    with psycopg.connect(scratch.local_url("noisy")) as connection:
        enqueue(connection, NewJob("work", unique_key="k", unique_scope="until_done"))
        connection.execute("SELECT docyard.enqueue('work')")
        connection.execute(
            "SELECT docyard.procrastinate_defer_jobs_v1(ARRAY[ROW('a', 'work', 0, NULL, NULL, '{}', NULL)"
            "::docyard.procrastinate_job_to_defer_v1])"
        )
    assert await states(database) == ["available"] * 104


async def test_workers_find_run_and_finish_jobs_by_polling_alone(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, seen = counting()
    queues = ["default"]
    async with running(database, registry, queues=queues, poll_seconds=0.3) as worker:
        await add(database, NewJob("work"), NewJob("work", {"fails": True}), NewJob("commit"))
        await add(database, NewJob("work", lock_key="l"), NewJob("work", lock_key="l", queue="other"))
        await eventually(lambda: worker.completed == 5)
    assert len(seen) == 5, "one of them failed once"
    assert sorted(await states(database)) == ["available"] + ["completed"] * 5
    assert "wake.missed" not in capsys.readouterr().out


async def test_a_running_job_is_cancelled_by_the_heartbeat(database: Database) -> None:
    registry, seen = counting()
    async with running(database, registry, poll_seconds=0.3, heartbeat_seconds=0.3):
        [job_id] = await add(database, NewJob("work", {"seconds": 60}))
        await eventually(lambda: seen)
        assert await Inspection(database).cancel([job_id]) == {job_id: True}
        await eventually(lambda: is_(database, job_id, "cancelled"))


async def test_what_an_operator_does_does_not_fail_for_it(database: Database) -> None:
    registry, _ = counting()
    await pause(database, "default", reason="")
    ids = await add(database, *[NewJob("work")] * 3)
    await resume(database, "default")
    await Inspection(database).cancel(ids[:1])
    await Inspection(database).retry(ids[:1])
    await change_selected(database, Change.CANCEL, Selection(kind="work"))
    await change_selected(database, Change.RETRY, Selection(state="cancelled"))
    async with database.transaction() as connection:
        batch = await create_batch(database, "with a callback", NewJob("work"), connection=connection)
    await add(database, NewJob("work", batch_id=batch))
    await pause_batch(database, batch)
    await resume_batch(database, batch)
    async with running(database, registry, poll_seconds=0.3) as worker:
        # The callback too.
        await eventually(lambda: worker.completed == 5)


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted
