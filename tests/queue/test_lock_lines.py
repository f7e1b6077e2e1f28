"""However many jobs wait for one lock key, a claim reads few of them, and none is forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.queueing import KINDS, add, claim, query, states
from support.working import drain

from docyard_queue import Attempt, NewJob, PostgresEngine, Registry
from docyard_queue import claim as claim_module
from docyard_queue.lock_lines import park, unpark

if TYPE_CHECKING:
    from docyard_schema import Database

CROWD = (
    "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, lock) "
    "SELECT 'default', 'work', 'crowd' FROM generate_series(1, {})"
)


async def buffers_of_a_claim(database: Database) -> int:
    values = {
        "worker": 1, "slots": 10, "kinds": [*KINDS], "limits": [3, 3], "queues": None, "apart": [],
    }  # fmt: skip
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        cursor = await connection.execute(
            database.sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim_module.statements.claim}"), values
        )
        [[plan]] = await cursor.fetchall()
    root = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])


@pytest.mark.fault(14)
async def test_a_claim_reads_few_jobs_beside_ten_thousand_of_one_lock_key(database: Database) -> None:
    await query(database, CROWD.format(10_000))
    await add(database, *[NewJob("work") for _ in range(50)])
    await query(database, "ANALYZE docyard.procrastinate_jobs")
    [first] = await claim(database, 1)
    assert first.lock_key == "crowd"
    crowded = await buffers_of_a_claim(database)
    assert await park(database) == 5000
    assert await park(database) == 4799
    assert await park(database) == 0
    # The first claim afterwards still meets what the index had of them, and marks it dead.
    await buffers_of_a_claim(database)
    assert await buffers_of_a_claim(database) < crowded / 10
    assert len(await claim(database, 100)) == 50


async def test_parked_jobs_come_to_the_front_in_their_order(database: Database) -> None:
    await query(database, CROWD.format(450))
    assert await park(database) == 250
    order: list[int] = []
    engine = PostgresEngine(database)
    while True:
        jobs = await claim(database)
        if not jobs:
            break
        order += [job.id for job in jobs]
        await engine.complete([(job, None) for job in jobs])
        await unpark(database)
    assert order == sorted(order)
    assert len(order) == 450


async def test_a_more_urgent_job_passes_those_that_are_parked(database: Database) -> None:
    await query(database, CROWD.format(300))
    await park(database)
    [urgent] = await add(database, lock_key="crowd", priority=9)
    assert [job.id for job in await claim(database)] == [urgent]


async def test_a_parked_job_that_was_cancelled_and_retried_runs(database: Database) -> None:
    await query(database, CROWD.format(201))
    assert await park(database) == 1
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'cancelled'")
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'todo' WHERE parked")
    assert await claim(database) == []
    assert await unpark(database) == 1
    assert len(await claim(database)) == 1


async def test_a_worker_runs_a_long_line_to_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docyard_workers.process.claiming._SLOW_SECONDS", 0)
    monkeypatch.setattr("docyard_workers.process.claiming._SLOW_SECONDS_A_JOB", 0)
    registry, order = Registry(), []

    @registry.handler("work")
    async def work(attempt: Attempt, payload: dict[str, object]) -> None:
        order.append(attempt.job.id)

    await query(database, CROWD.format(700))
    await drain(database, registry)
    assert order == sorted(order)
    assert set(await states(database)) == {"completed"}
