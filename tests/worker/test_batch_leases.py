"""Batches whose leases are lost, whose database goes away, and whose outcomes are many."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import add, attempts, claim, query, rescue_all, row, states
from support.working import AT_ONCE, drain, running

from docyard_queue import (
    Attempt,
    AttemptBatch,
    LeaseLost,
    NewJob,
    QueueError,
    RateLimited,
    Registry,
    commit_together,
)

if TYPE_CHECKING:
    from docyard_schema import Database


def jobs(count: int) -> list[NewJob]:
    return [NewJob("many", {"n": n}, queue="many") for n in range(count)]


async def held(database: Database, count: int) -> list[Attempt]:
    """Attempts as a worker holds them."""
    await add(database, *jobs(count))
    return [Attempt(job, database) for job in await claim(database, count, kinds={"many": 3})]


async def take_away(database: Database, attempt: Attempt) -> None:
    """Another worker rescues and claims the job."""
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET lease = lease + 1, worker_id = 77 WHERE id = %s",
        attempt.job.id,
    )


@pytest.fixture(autouse=True)
async def _effects(database: Database) -> None:
    await query(database, "CREATE TABLE public.effects (job_id bigint)")


async def test_a_commit_together_leaves_lost_jobs_to_their_new_holders(database: Database) -> None:
    first, lost, last = await held(database, 3)
    await take_away(database, lost)
    async with commit_together(database, {first: {"n": 1}, lost: {"n": 2}, last: None}) as connection:
        await connection.execute("INSERT INTO public.effects VALUES (1)")
    assert [attempt.committed for attempt in (first, lost, last)] == [True, False, True]
    assert [attempt.lease_lost for attempt in (first, lost, last)] == [False, True, False]
    assert await states(database) == ["completed", "running", "completed"]
    assert len(await query(database, "SELECT * FROM public.effects")) == 1
    assert (await row(database, first.job.id))["result"] == {"n": 1}


async def test_a_commit_together_of_none_or_of_lost_ones_alone_writes_all_the_same(
    database: Database,
) -> None:
    [lost] = await held(database, 1)
    await take_away(database, lost)
    for results in ({}, {lost: None}):
        async with commit_together(database, results) as connection:
            await connection.execute("INSERT INTO public.effects VALUES (1)")
    assert len(await query(database, "SELECT * FROM public.effects")) == 2
    assert lost.lease_lost


async def test_a_commit_together_that_raises_may_be_tried_again(database: Database) -> None:
    both = dict.fromkeys(await held(database, 2))
    with pytest.raises(ZeroDivisionError):
        async with commit_together(database, both):
            raise ZeroDivisionError
    async with commit_together(database, both):
        raise psycopg.Rollback
    assert await states(database) == ["running"] * 2
    async with commit_together(database, both):
        pass
    assert await states(database) == ["completed"] * 2
    with pytest.raises(QueueError, match="committed already"):
        async with commit_together(database, both):
            pass


async def test_commits_and_rescues_that_meet_leave_each_job_to_one(database: Database) -> None:
    mine = await held(database, 40)

    async def commit(part: list[Attempt]) -> None:
        async with commit_together(database, dict.fromkeys(part)) as connection:
            for attempt in part:
                if not attempt.lease_lost:
                    await connection.execute("SELECT 1")

    await asyncio.gather(commit(mine[:20]), rescue_all(database), commit(mine[20:]))
    committed = [attempt.job.id for attempt in mine if attempt.committed]
    found = await states(database)
    assert len(committed) == found.count("completed")
    assert found.count("completed") + found.count("available") + found.count("retryable") == 40


async def test_lost_leases_in_a_batch_harm_nobody_else(database: Database) -> None:
    registry, seen = Registry(), []

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        if not seen:
            seen.append(batch[0])
            await take_away(database, batch[0])
            async with commit_together(database, dict.fromkeys(batch)):
                pass
            assert batch[0].lease_lost

    await add(database, *jobs(3))
    async with running(database, registry) as worker:
        await eventually(lambda: worker.completed == 2)
    assert await states(database) == ["running", "completed", "completed"]


async def test_a_lease_lost_in_one_attempts_own_commit_gives_the_others_back(database: Database) -> None:
    registry, calls = Registry(), []

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        calls.append(len(batch))
        if len(calls) == 1:
            await take_away(database, batch[0])
            with pytest.raises(LeaseLost):
                async with batch[0].commit():
                    pass
            async with batch[0].commit():
                pass

    ids = await add(database, *jobs(3))
    async with running(database, registry) as worker:
        await eventually(lambda: worker.completed == 2)
    assert calls == [3, 2]
    assert [(await row(database, job_id))["attempts"] for job_id in ids] == [1, 1, 1]
    assert [told["outcome"] for told in await attempts(database, ids[1])] == ["released", "completed"]


async def test_a_cancel_that_meets_a_commit_counts_once(database: Database) -> None:
    registry, inside = Registry(), asyncio.Event()
    go_on = asyncio.Event()

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        async def write() -> None:
            async with commit_together(database, dict.fromkeys(batch)):
                inside.set()
                await go_on.wait()

        await asyncio.shield(asyncio.create_task(write()))

    ids = await add(database, *jobs(2))
    async with running(database, registry) as worker:
        await inside.wait()
        worker._attempts.cancel(ids)
        go_on.set()
        await eventually(lambda: worker.completed == 2)
    assert await states(database) == ["completed"] * 2


async def test_hundreds_that_must_wait_are_put_back_in_few_statements(database: Database) -> None:
    registry, refused = Registry(), []

    @registry.batch_handler("many", queue="many", size=1000)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        if not refused:
            refused.extend(batch)
            raise RateLimited("429", retry_after=timedelta(seconds=0.2))

    ids = await add(database, *jobs(500))
    worker = await drain(database, registry)
    assert worker.completed == 500
    assert {(await row(database, job_id))["attempts"] for job_id in ids[::50]} == {1}
    assert [told["outcome"] for told in await attempts(database, refused[0].job.id)] == [
        "snoozed",
        "completed",
    ]


async def test_hundreds_that_fail_are_written_down_each(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=1000, max_attempts=2, backoff=AT_ONCE)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        for attempt in batch:
            if attempt.number == 1:
                batch.settle(attempt, ConnectionError("503"))

    ids = await add(database, *jobs(300))
    worker = await drain(database, registry)
    assert worker.completed == 300
    assert {(await row(database, job_id))["attempts"] for job_id in ids[::50]} == {2}


async def test_a_handler_that_raises_after_its_commit_changes_nothing(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        async with commit_together(database, dict.fromkeys(batch)):
            pass
        raise ValueError("too late")

    await add(database, *jobs(3))
    worker = await drain(database, registry)
    assert worker.completed == 3
    assert await states(database) == ["completed"] * 3


async def test_an_outcome_that_cannot_be_written_is_written_when_the_database_is_back(
    database: Database,
) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        await query(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        batch.settle(batch[0], RateLimited("later", retry_after=timedelta(hours=1)))

    await add(database, *jobs(3))
    async with running(database, registry) as worker:
        await eventually(lambda: worker.completed == 2, seconds=20)
        await eventually(lambda: is_scheduled(database))


async def is_scheduled(database: Database) -> bool:
    return await states(database) == ["scheduled", "completed", "completed"]
