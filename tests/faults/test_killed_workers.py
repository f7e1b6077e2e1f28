"""Line 1: ``kill -9`` in the very moment in which a worker claims, finishes, or commits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support import worker_app
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states

from docyard_queue import NewJob, enqueue_many

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault(1)]


async def asks(database: Database, words: str) -> bool:
    """Whether a session waits for a lock in a statement with these words."""
    return bool(
        await query(
            database,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND query LIKE %s",
            f"%{words}%",
        )
    )


async def all_completed(database: Database) -> bool:
    return set(await states(database)) == {"completed"}


async def test_in_the_middle_of_a_batch_claim(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    # It beats rarely, so that hardly anything but the claim meets the lock.
    victim = start(url, heartbeat_seconds=30, poll_seconds=0.2)
    await eventually(lambda: "worker.started" in victim.log, seconds=30)
    ids: list[int] = []
    while not ids:
        async with database.transaction() as connection:
            await connection.execute(database.sql("LOCK TABLE docyard.procrastinate_jobs IN EXCLUSIVE MODE"))
            ids = await enqueue_many(connection, [NewJob("effect")] * 20)
            await eventually(lambda: asks(database, "procrastinate_jobs"))
            if await asks(database, "attempts = job.attempts + 1"):
                # The server goes on with a statement whose client has died, and takes the jobs for nobody.
                victim.kill()
            else:
                # It was another statement of the worker's that met the lock.
                ids = []
                raise psycopg.Rollback
    await eventually(lambda: has_running(database))
    heir = start(url)
    await eventually(lambda: all_completed(database), seconds=20)
    assert await effects() == ids
    outcomes = [entry["outcome"] for job_id in ids for entry in await attempts(database, job_id)]
    assert outcomes.count("crashed") + outcomes.count("released") == 5, "those of the batch, and no others"
    assert heir.stop() == 0


async def has_running(database: Database) -> bool:
    return "running" in await states(database)


async def test_in_the_middle_of_a_finish(database: Database, url: str, start: Callable[..., Any]) -> None:
    victim = start(url, app=worker_app)
    [job_id] = await add(database, NewJob("sleep", {"seconds": 0.5}))
    await eventually(lambda: is_(database, job_id, "running"), seconds=30)
    async with database.transaction() as connection:
        await connection.execute(
            database.sql("SELECT FROM docyard.procrastinate_jobs WHERE id = %s FOR UPDATE"), [job_id]
        )
        await eventually(lambda: asks(database, "SET status = 'succeeded'"))
        victim.kill()
    # It was asked for under a lease that still held, so it is written.
    await eventually(lambda: is_(database, job_id, "completed"))
    heir = start(url, app=worker_app)
    await eventually(lambda: "worker.started" in heir.log, seconds=30)
    assert heir.stop() == 0
    stored = await row(database, job_id)
    assert (stored["status"], stored["attempts"], stored["lease"]) == ("succeeded", 1, 1)
    assert stored["result"] == victim.pid


async def test_in_the_middle_of_a_commit(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    victim = start(url, app=worker_app, heartbeat_seconds=10)
    [job_id] = await add(database, NewJob("effect", {"inside": 1}))
    await eventually(lambda: has_written(database), seconds=30)
    victim.kill()
    before = time.monotonic()
    start(url, app=worker_app)
    await eventually(lambda: is_(database, job_id, "completed"), seconds=20)
    assert time.monotonic() - before < 10
    assert await effects() == [job_id], "once, although two had written it"
    assert [entry["outcome"] for entry in await attempts(database, job_id)] == ["crashed", "completed"]


async def has_written(database: Database) -> bool:
    return bool(
        await query(
            database,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'idle in transaction' AND query LIKE 'INSERT INTO public.effects%%'",
        )
    )


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted
