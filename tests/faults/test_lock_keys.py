"""Lines 14 and 24: many jobs with one lock key run in order, each as soon as the one before has ended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, query
from support.working import running

from docyard_queue import NewJob, PostgresEngine, Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue import Job
    from docyard_schema import Database

MANY = 10_000


def recording(*kinds: str) -> tuple[Registry, list[int], list[float]]:
    """Handlers that tell which jobs they ran, and the pauses between them."""
    registry, order, pauses = Registry(), [], []
    ended = 0.0

    async def handler(attempt: Any, payload: Any) -> None:
        nonlocal ended
        if ended:
            pauses.append(time.monotonic() - ended)
        order.append(attempt.job.id)
        await asyncio.sleep(payload.get("seconds", 0))
        ended = time.monotonic()

    for kind in kinds or ("work",):
        registry.handler(kind)(handler)
    return registry, order, pauses


async def ten_thousand(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, lock) "
        "SELECT 'default', 'work', 'one' FROM generate_series(1, %s)",
        MANY,
    )
    await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")


@pytest.mark.fault(14)
@pytest.mark.slow
async def test_ten_thousand_jobs_of_one_lock_keep_their_order_and_hold_nobody_up(database: Database) -> None:
    await ten_thousand(database)
    registry, order, _ = recording()
    async with running(database, registry, poll_seconds=60) as worker:
        await eventually(lambda: worker.completed >= 20, seconds=30)
        [free] = await add(database)
        await eventually(lambda: free in order, what="a job without a lock behind all of them")
    ran = [job_id for job_id in order if job_id != free]
    assert ran == [*range(1, len(ran) + 1)]


@pytest.mark.fault(24)
async def test_the_next_job_of_a_lock_begins_when_the_one_before_has_ended(database: Database) -> None:
    registry, order, pauses = recording()
    ids = await add(database, *[NewJob("work", {"seconds": 0.05}, lock_key="l")] * 20)
    async with running(database, registry, poll_seconds=60) as worker:
        await eventually(lambda: worker.completed == 20)
    assert order == ids
    assert sorted(pauses)[len(pauses) // 2] < 0.5


@pytest.mark.fault(24)
async def test_a_lock_that_frees_wakes_the_worker_that_serves_the_next_job(database: Database) -> None:
    ours, order, _ = recording()
    ids = await add(
        database,
        *[NewJob("work", {"seconds": 0.05}, lock_key="l", queue="ab"[number % 2]) for number in range(10)],
    )
    async with (
        running(database, ours, queues=["a"], poll_seconds=60),
        running(database, ours, queues=["b"], poll_seconds=60),
    ):
        await eventually(lambda: order == ids)


@pytest.mark.fault(24)
async def test_a_stopping_worker_wakes_the_others_for_what_its_lock_kept_waiting(database: Database) -> None:
    registry, order, _ = recording()
    first, second = await add(database, *[NewJob("work", {"seconds": 0.5}, lock_key="l")] * 2)
    async with running(database, registry, poll_seconds=60) as stopping:
        await eventually(lambda: order == [first])
        async with running(database, registry, poll_seconds=60):
            stopping.stop()
            await eventually(lambda: order == [first, second])


class Slow(PostgresEngine):
    """An engine of which an answer to a claim is on its way while something else happens."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.looked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def claim(self, *arguments: Any, **options: Any) -> list[Job]:
        jobs: Sequence[Job] = await super().claim(*arguments, **options)
        self.looked.set()
        await self.go_on.wait()
        return [*jobs]


@pytest.mark.fault(24)
async def test_a_notice_that_comes_during_a_claim_is_not_forgotten(database: Database) -> None:
    registry, order, _ = recording()
    engine = Slow(database)
    async with running(database, registry, engine=engine, poll_seconds=60) as worker:
        await engine.looked.wait()
        await eventually(lambda: listening(database))
        worker._wake.clear()
        ids = await add(database)
        await eventually(worker._wake.is_set, what="the notice")
        engine.go_on.set()
        await eventually(lambda: order == ids, seconds=5)


async def listening(database: Database) -> bool:
    return bool(
        await query(
            database,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND query LIKE 'LISTEN%%' AND state = 'idle'",
        )
    )
