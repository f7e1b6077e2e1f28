"""Claims for batch handlers: neither sort keeps the other waiting, and no claim walks past a crowd."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import opened
from support.blocks import blocks_touched
from support.eventually import eventually
from support.queueing import add, make_due, query, row, states
from support.working import AT_ONCE, drain, running

from docyard_queue import NewJob, PostgresEngine, Registry, queues
from docyard_queue.limits import Limits, set_limits
from docyard_workers.process.batch_claiming import BatchClaiming
from docyard_workers.process.batch_room import rooms_of
from docyard_workers.process.claiming import Claiming

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database

CROWD = 50_000

_FILL = (
    "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, scheduled_at) "
    "SELECT %s, %s, CASE WHEN %s THEN now() - interval '1 minute' END FROM generate_series(1, %s)"
)


class Claimers:
    """The two claimings of a worker, without the worker; what they took is kept."""

    def __init__(self, database: Database, **options: Any) -> None:
        registry = Registry()
        options = {"queue": "many", "size": 10} | options
        registry.batch_handler("many", **options)(lambda batch, payloads: None)
        engine = PostgresEngine(database)
        self.batch_jobs: list[Job] = []
        self.jobs: list[Job] = []
        [self.room] = rooms_of(registry, lambda: None)
        self.batches = BatchClaiming(engine, [self.room], queues=None, begin=self._begin)
        self.ordinary = Claiming(
            engine, kinds={"work": 3}, queues=None, begin=self.jobs.append, fronts=self.batches.fronts
        )

    def _begin(self, room: Any, jobs: Any) -> None:
        self.batch_jobs += jobs
        for job in jobs:
            room.take(job)

    async def look(self) -> None:
        await asyncio.sleep(max(0.0, self.batches.fronts.wait()))
        await self.batches._look()

    async def walk(self) -> None:
        """Let both do what they do once a second."""
        await self.look()
        await self.ordinary.fill(1, 10)
        await self.batches.fill(1)


async def walk_of(database: Database, kind: str) -> int:
    """The blocks of a claim that looks through the whole crowd."""
    walk = PostgresEngine(database).claim(1, slots=10, kinds={kind: 3}, queues=["many"])
    blocks = await blocks_touched(database, walk)
    assert blocks > 1000
    return blocks


@pytest.mark.parametrize("late", [False, True])
async def test_ordinary_claims_do_not_walk_along_a_crowd_of_batch_jobs(url: str, late: bool) -> None:
    async with opened(url, pool_max_size=1) as database:
        await query(database, _FILL, "many", "many", late, CROWD)
        await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")
        claimers = Claimers(database)
        await claimers.walk()
        assert claimers.room.free == 0
        touched = [await blocks_touched(database, claimers.ordinary.fill(1, 10)) for _ in range(5)]
        assert sorted(touched)[2] < await walk_of(database, "work") / 3, touched
        assert claimers.jobs == []
        await add(database, NewJob("work", queue="many"), NewJob("work"))
        await claimers.ordinary.fill(1, 10)
        assert len(claimers.jobs) == 1, "that of another queue is found at once"

        async def both() -> bool:
            await claimers.ordinary.fill(1, 10)
            return len(claimers.jobs) == 2

        await eventually(both, what="the one behind the crowd to be found")


@pytest.mark.parametrize("late", [False, True])
async def test_batch_claims_do_not_walk_along_a_crowd_of_ordinary_jobs(url: str, late: bool) -> None:
    async with opened(url, pool_max_size=1) as database:
        await query(database, _FILL, "many", "work", late, CROWD)
        await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")
        claimers = Claimers(database)
        await claimers.look()
        await claimers.batches.fill(1)
        await asyncio.sleep(0.01)
        touched = [await blocks_touched(database, claimers.batches.fill(1)) for _ in range(5)]
        assert sorted(touched)[2] < await walk_of(database, "many") / 3, touched
        await add(database, NewJob("many", queue="many"))

        async def found() -> bool:
            await claimers.batches.fill(1)
            return len(claimers.batch_jobs) == 1

        await eventually(found, what="the one behind the crowd to be found")


async def test_a_crowd_in_another_queue_costs_a_batch_claim_nothing(url: str) -> None:
    async with opened(url, pool_max_size=1) as database:
        await query(database, _FILL, "default", "work", False, CROWD)
        await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")
        claimers = Claimers(database)
        await add(database, *[NewJob("many", queue="many") for _ in range(5)])
        await claimers.look()
        touched = await blocks_touched(database, claimers.batches.fill(1))
        assert len(claimers.batch_jobs) == 5
        assert touched < 500, touched


async def test_both_sorts_flow_side_by_side_in_one_queue(database: Database) -> None:
    registry, done = Registry(), {"many": 0, "work": 0}

    @registry.batch_handler("many", size=20)
    async def many(batch: Any, payloads: Any) -> None:
        done["many"] += len(batch)

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        done["work"] += 1

    await add(database, *[NewJob("many" if n % 3 else "work") for n in range(900)])
    await drain(database, registry)
    assert done == {"many": 600, "work": 300}


async def test_batch_jobs_in_other_queues_are_found(database: Database) -> None:
    registry, seen = Registry(), []

    @registry.batch_handler("many", queue="many", size=20)
    async def many(batch: Any, payloads: Any) -> None:
        seen.extend(attempt.job.queue for attempt in batch)

    async with running(database, registry, poll_seconds=30) as worker:
        await add(database, NewJob("many", queue="elsewhere", weight=7))
        await eventually(lambda: worker.completed == 1)
        await add(database, NewJob("many", queue="partitioned", partition_key="tenant"))
        await eventually(lambda: worker.completed == 2)
    assert seen == ["elsewhere", "partitioned"]


async def test_a_worker_of_other_queues_leaves_batch_jobs_alone(database: Database) -> None:
    registry = Registry()
    registry.batch_handler("many", queue="many", size=20)(lambda batch, payloads: None)
    await add(database, NewJob("many", queue="many"), NewJob("many", queue="mine"))
    await drain(database, registry, queues=["mine"])
    assert await states(database) == ["available", "completed"]


async def test_the_most_urgent_come_first_and_equals_in_their_order(database: Database) -> None:
    registry, order = Registry(), []

    @registry.batch_handler("many", queue="many", size=2)
    async def many(batch: Any, payloads: Any) -> None:
        order.extend(attempt.job.payload["n"] for attempt in batch)

    await add(database, *[NewJob("many", {"n": n}, queue="many", priority=n % 2) for n in range(6)])
    await drain(database, registry)
    assert order == [1, 3, 5, 0, 2, 4]


async def test_old_jobs_are_not_starved_by_urgent_ones(database: Database) -> None:
    old = await add(database, NewJob("many", queue="many"))
    await query(database, "UPDATE docyard.procrastinate_jobs SET created_at = now() - interval '1 hour'")
    await add(database, *[NewJob("many", queue="many", priority=5) for _ in range(100)])
    claimers = Claimers(database, size=5)
    taken: set[int] = set()
    for _ in range(3):
        await claimers.batches.fill(1)
        taken |= {job.id for job in claimers.batch_jobs}
        for job in claimers.batch_jobs:
            claimers.room.ended(job)
            claimers.room.written(job)
        claimers.batch_jobs.clear()
    assert old[0] in taken


async def test_a_paused_queue_gives_no_batch_jobs(database: Database) -> None:
    registry = Registry()
    registry.batch_handler("many", queue="many", size=20)(lambda batch, payloads: None)
    await queues.pause(database, "many")
    async with running(database, registry, poll_seconds=0.1) as worker:
        await add(database, *[NewJob("many", queue="many") for _ in range(3)])
        await asyncio.sleep(0.3)
        assert await states(database) == ["available"] * 3
        await queues.resume(database, "many")
        await eventually(lambda: worker.completed == 3)


async def test_limits_of_a_queue_hold_for_batch_jobs(database: Database) -> None:
    registry, inside, most = Registry(), 0, 0
    released = asyncio.Event()

    @registry.batch_handler("many", queue="many", size=20)
    async def many(batch: Any, payloads: Any) -> None:
        nonlocal inside, most
        inside += len(batch)
        most = max(inside, most)
        await released.wait()
        inside -= len(batch)

    await set_limits(database, "many", Limits(concurrency=3))
    await add(database, *[NewJob("many", queue="many") for _ in range(10)])
    async with running(database, registry) as worker:
        await eventually(lambda: inside == 3)
        released.set()
        await eventually(lambda: worker.completed == 10)
    assert most == 3


async def test_jobs_that_failed_are_claimed_again_when_their_time_comes(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=20, max_attempts=2, backoff=AT_ONCE)
    async def many(batch: Any, payloads: Any) -> None:
        for attempt in batch:
            if attempt.number == 1:
                batch.settle(attempt, ValueError("once more"))

    ids = await add(database, *[NewJob("many", queue="many") for _ in range(3)])
    [late] = await add(database, NewJob("many", queue="many", run_at=None, timeout=timedelta(seconds=9)))
    worker = await drain(database, registry)
    assert worker.completed == 4
    assert {(await row(database, job_id))["attempts"] for job_id in [*ids, late]} == {2}
    await make_due(database)


async def test_lock_keys_hold_for_batch_jobs(database: Database) -> None:
    registry, calls = Registry(), []

    @registry.batch_handler("many", queue="many", size=20)
    async def many(batch: Any, payloads: Any) -> None:
        calls.append([attempt.job.payload["n"] for attempt in batch])

    await add(database, *[NewJob("many", {"n": n}, queue="many", lock_key="one") for n in range(3)])
    await drain(database, registry)
    assert calls == [[0], [1], [2]]
