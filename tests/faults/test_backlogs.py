"""Lines 10 and 15: what a claim costs where there is much: finished, future, waiting, and dead rows.

Counted in blocks that Postgres touches and not in seconds, so that a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from conftest import opened
from support.blocks import blocks_touched
from support.eventually import eventually
from support.queueing import add, claim, query
from support.storm import LONG
from support.working import running

from docyard_queue import NewJob, PostgresEngine, Registry
from docyard_queue.prune import prune

if TYPE_CHECKING:
    from docyard_schema import Database

pytestmark = pytest.mark.slow

_FILL = (
    "INSERT INTO docyard.procrastinate_jobs "
    "(queue_name, task_name, status, attempts, lease, scheduled_at, worker_id, finished_at, created_at) "
    "SELECT 'default', 'work', (CASE WHEN n %% 8 < 5 THEN 'succeeded' ELSE 'todo' END)"
    "::docyard.procrastinate_job_status, CASE WHEN n %% 8 < 5 THEN 1 ELSE 0 END, "
    "CASE WHEN n %% 8 < 5 THEN 1 ELSE 0 END, CASE WHEN n %% 8 = 5 THEN now() + interval '1 day' END, "
    "CASE WHEN n %% 8 < 5 THEN 1 END, CASE WHEN n %% 8 < 5 THEN now() - n * interval '1 s' END, "
    "now() - n * interval '1 s' FROM generate_series(1, %s) AS n"
)


async def fill(database: Database, rows: int) -> None:
    """Five finished jobs for every future and every two waiting ones."""
    await query(database, _FILL, rows)
    await query(database, "VACUUM ANALYZE docyard.procrastinate_jobs")


async def claim_and_finish(database: Database, slots: int = 10) -> None:
    jobs = await claim(database, slots)
    assert len(jobs) == slots
    await PostgresEngine(database).complete([(job, None) for job in jobs])


async def cost(database: Database) -> int:
    """The blocks of a usual claim and finish of ten jobs; the first ones read the catalogue."""
    touched = [await blocks_touched(database, claim_and_finish(database)) for _ in range(9)]
    return sorted(touched)[4]


@pytest.mark.fault(15)
async def test_a_claim_touches_as_much_of_a_large_table_as_of_a_small_one(
    database: Database, url: str
) -> None:
    large = 2_000_000 if LONG else 300_000
    async with opened(url, pool_max_size=1) as alone:
        await fill(alone, 1000)
        small_cost = await cost(alone)
        await fill(alone, large)
        large_cost = await cost(alone)
    # A larger index has more levels.
    assert large_cost <= 1.5 * small_cost, (small_cost, large_cost)


@pytest.mark.fault(15)
async def test_pruning_goes_in_batches_that_cost_the_same(url: str) -> None:
    from datetime import timedelta

    async with opened(url, pool_max_size=1) as alone:
        await fill(alone, 60_000)

        async def some() -> None:
            assert (await prune(alone, older_than=timedelta(hours=1), limit=1000))["completed"] == 1000

        touched = [await blocks_touched(alone, some()) for _ in range(8)]
    # The index entries of what was deleted stay until a vacuum.
    assert max(touched) <= 2 * min(touched), touched


@pytest.mark.fault(10)
async def test_jobs_flow_while_a_transaction_stays_open_and_what_it_costs_is_bounded(
    database: Database, url: str
) -> None:
    done = 20_000 if LONG else 8_000
    async with opened(url, pool_max_size=1) as alone:
        await query(
            alone,
            "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name) "
            "SELECT 'default', 'work' FROM generate_series(1, %s)",
            done + 2000,
        )
        await query(alone, "VACUUM ANALYZE docyard.procrastinate_jobs")
        before = await cost(alone)
        with psycopg.connect(url) as holder:
            # No version of a row that ends from now on can be cleaned away.
            holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM docyard.jobs")
            for _ in range(done // 100):
                await claim_and_finish(alone, 100)
            held = await cost(alone)
            # About 48 blocks for each thousand jobs that ended meanwhile, however many wait.
            assert held <= before + 60 * done / 1000, (before, held)
            await workers_go_on(database)


async def workers_go_on(database: Database) -> None:
    registry, ended = Registry(), asyncio.Semaphore(0)

    @registry.handler("other")
    async def other(attempt: Any, payload: Any) -> None:
        async with attempt.commit():
            ended.release()

    await add(database, *[NewJob("other", lock_key=f"l{n % 7}", unique_key=str(n)) for n in range(50)])
    async with running(database, registry, poll_seconds=0.5) as worker:
        await eventually(lambda: worker.completed == 50)
