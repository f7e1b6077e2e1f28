"""Claimers and finishers that meet all the time: no job runs twice at once, no two under one lock key."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from conftest import opened
from support.queueing import add, claim, query, states

from docyard_queue import NewJob, PostgresEngine, Snooze
from docyard_queue.outcomes import Failure

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database

CLAIMERS = 4
JOBS = 240
AGAIN = Failure(code="boom", error_class="Boom", message="", traceback="", retry_in=timedelta(0))


@pytest.mark.parametrize("seed", range(3))
async def test_no_job_is_claimed_twice_and_locks_are_honoured_in_order(
    url: str, database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    locks = [chance.choice([None, *"abcdefgh"]) for _ in range(JOBS)]
    await add(database, *[NewJob("work", lock_key=lock, max_attempts=3) for lock in locks])
    running: dict[str, int] = {}
    held: set[int] = set()
    claims: Counter[int] = Counter()
    order: defaultdict[str, list[int]] = defaultdict(list)

    def begin(job: Job) -> None:
        assert job.id not in held, f"job {job.id} was claimed twice at once"
        held.add(job.id)
        claims[job.id] += 1
        assert job.lease == claims[job.id], "each claim has a lease of its own"
        if job.lock_key is not None:
            assert job.lock_key not in running, f"{job.id} runs beside {running.get(job.lock_key)}"
            running[job.lock_key] = job.id
            order[job.lock_key].append(job.id)

    async def end(engine: PostgresEngine, job: Job) -> None:
        # Noted before it is written: from then on somebody else may have the next one.
        held.discard(job.id)
        if job.lock_key is not None:
            del running[job.lock_key]
        match chance.choice(["done", "done", "fail", "snooze", "release"]):
            case "fail":
                assert await engine.settle(job, AGAIN)
            case "snooze":
                assert await engine.settle(job, Snooze(timedelta(0)))
            case "release":
                assert await engine.release(job, "stopped")
            case _:
                assert await engine.complete([(job, None)]) == []

    async def worker(number: int) -> None:
        async with opened(url, pool_min_size=1, pool_max_size=1) as own:
            engine = PostgresEngine(own)
            while True:
                taken = await claim(own, chance.randint(1, 4), worker=number)
                for job in taken:
                    begin(job)
                for job in taken:
                    await end(engine, job)
                if not taken and await _nothing_waits(own):
                    return

    async with asyncio.timeout(60):
        await asyncio.gather(*(worker(number) for number in range(1, CLAIMERS + 1)))
    assert set(await states(database)) <= {"completed", "dead"}
    assert len(claims) == JOBS
    # One that is to be tried again keeps its lock key: what waits behind it never overtakes it.
    assert {lock: sorted(ids) for lock, ids in order.items()} == order
    [found] = await query(
        database, "SELECT max(attempts) AS most, sum(lease) AS leases FROM docyard.procrastinate_jobs"
    )
    assert found["most"] <= 3
    assert found["leases"] == claims.total()


async def _nothing_waits(database: Database) -> bool:
    return not await query(
        database, "SELECT FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing')"
    )
