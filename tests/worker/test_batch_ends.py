"""Workers have the callbacks of batches enqueued, and run them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.eventually import eventually
from support.queueing import claim, query, state
from support.working import AT_ONCE, drain, running

from docyard_queue import (
    NewJob,
    PostgresEngine,
    Registry,
    batch_progress,
    cancel_batch,
    create_batch,
    pause_batch,
    resume_batch,
)

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_schema import Database


def reporting() -> tuple[Registry, list[dict[str, Any]]]:
    registry, reports = Registry(), []

    @registry.handler("work", max_attempts=2, backoff=AT_ONCE)
    async def work(attempt: Any, payload: Any) -> None:
        if payload.get("fails"):
            raise ValueError("as told")
        await asyncio.sleep(payload.get("seconds", 0))

    @registry.handler("commit")
    async def commit(attempt: Any, payload: Any) -> None:
        async with attempt.commit():
            pass

    @registry.handler("report")
    async def report(attempt: Any, payload: Any) -> None:
        reports.append(payload)

    return registry, reports


async def a_batch(database: Database, *jobs: dict[str, Any], kind: str = "work") -> UUID:
    async with database.transaction() as connection:
        batch = await create_batch(database, "b", NewJob("report"), connection=connection)
        await PostgresEngine(database).enqueue(
            [NewJob(kind, job, batch_id=batch) for job in jobs], connection=connection
        )
    return batch


async def test_a_drain_runs_the_callback_too(database: Database) -> None:
    registry, reports = reporting()
    batch = await a_batch(database, {}, {}, {"fails": True})
    await drain(database, registry)
    assert reports == [{"batch_id": str(batch)}]
    assert (await batch_progress(database, batch)).dead == 1


async def test_a_job_that_commits_by_itself_counts(database: Database) -> None:
    registry, reports = reporting()
    await a_batch(database, {}, {}, kind="commit")
    await drain(database, registry)
    assert len(reports) == 1


async def test_two_workers_run_the_callbacks_of_many_batches_once_each(database: Database) -> None:
    registry, reports = reporting()
    batches = [await a_batch(database, *[{}] * 7) for _ in range(30)]
    async with running(database, registry, concurrency=4), running(database, registry, concurrency=4):
        await eventually(lambda: len(reports) == 30, seconds=20)
    assert sorted(report["batch_id"] for report in reports) == sorted(map(str, batches))


async def test_a_callback_that_a_crash_left_behind_is_found_by_the_sweep(database: Database) -> None:
    registry, reports = reporting()
    await a_batch(database, {})
    # The job ends, and its worker dies before it looks.
    [job] = await claim(database, kinds={"work": 2})
    await PostgresEngine(database).complete([(job, None)])
    async with running(database, registry, heartbeat_seconds=0.2):
        await eventually(lambda: len(reports) == 1)


async def test_a_resumed_batch_goes_on_at_once(database: Database) -> None:
    registry, reports = reporting()
    batch = await a_batch(database, {})
    await pause_batch(database, batch)
    async with running(database, registry, poll_seconds=60) as worker:
        await eventually(lambda: listens(database))
        assert worker.completed == 0
        await resume_batch(database, batch)
        await eventually(lambda: len(reports) == 1, seconds=5)


async def listens(database: Database) -> bool:
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    return bool(await query(database, sessions))


async def test_a_cancelled_batch_ends_its_running_jobs_and_reports(database: Database) -> None:
    registry, reports = reporting()
    batch = await a_batch(database, {"seconds": 60}, {"seconds": 60})
    async with running(database, registry, concurrency=1, heartbeat_seconds=0.3):

        async def runs() -> bool:
            return (await batch_progress(database, batch)).running == 1

        await eventually(runs)
        assert await cancel_batch(database, batch) == (1, 1)
        await eventually(lambda: len(reports) == 1)
    progress = await batch_progress(database, batch)
    assert (progress.state, progress.cancelled) == ("cancelled", 2)
    assert progress.callback_job_id is not None
    assert await state(database, progress.callback_job_id) == "completed"
