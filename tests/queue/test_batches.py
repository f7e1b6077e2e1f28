"""Batches: a callback exactly once, and what a person may do to a batch."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from support.queueing import add, claim, make_due, query, row, states

from docyard_queue import (
    Cancel,
    Inspection,
    NewJob,
    PostgresEngine,
    batch_progress,
    cancel_batch,
    create_batch,
    list_batches,
    pause_batch,
    resume_batch,
)
from docyard_queue.batch_callbacks import close_batches
from docyard_queue.outcomes import Failure
from docyard_schema import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from docyard_queue import Job
    from docyard_schema import Database

CALLBACK = NewJob("report", {"to": "me"}, queue="reports", priority=3, timeout=timedelta(seconds=9))
DEAD = Failure(code="permanent", error_class="E", message="m", traceback="t", retry_in=None)


async def a_batch(database: Database, jobs: int = 1, callback: NewJob | None = CALLBACK) -> UUID:
    async with database.transaction() as connection:
        batch = await create_batch(database, "b", callback, connection=connection)
        await PostgresEngine(database).enqueue(
            [NewJob("work", batch_id=batch) for _ in range(jobs)], connection=connection
        )
    return batch


async def complete(database: Database, jobs: list[Job]) -> None:
    assert await PostgresEngine(database).complete([(job, None) for job in jobs]) == []


async def state_of(database: Database, batch: UUID) -> str:
    return (await batch_progress(database, batch)).state


async def callbacks(database: Database) -> list[dict[str, Any]]:
    return await query(database, "SELECT * FROM docyard.procrastinate_jobs WHERE task_name = 'report'")


async def test_the_callback_is_enqueued_when_the_last_job_has_ended(database: Database) -> None:
    batch = await a_batch(database, 3)
    jobs = await claim(database)
    await complete(database, jobs[:2])
    assert await close_batches(database, [batch]) == []
    await complete(database, jobs[2:])
    [(closed, job_id)] = await close_batches(database, [batch])
    assert closed == batch
    callback = await row(database, job_id)
    assert callback["args"] == {"to": "me", "batch_id": str(batch)}
    assert (callback["task_name"], callback["queue_name"], callback["priority"]) == ("report", "reports", 3)
    assert (callback["timeout_seconds"], callback["batch_id"]) == (9, None)
    assert (await batch_progress(database, batch)).callback_job_id == job_id


@pytest.mark.parametrize("batches", ["its own", "all"])
async def test_many_who_look_at_once_enqueue_one_callback(database: Database, batches: str) -> None:
    batch = await a_batch(database, 2)
    await complete(database, await claim(database))
    chosen = [batch] if batches == "its own" else None
    looks = await asyncio.gather(*(close_batches(database, chosen) for _ in range(12)))
    assert sum(map(len, looks)) == 1
    assert await close_batches(database) == []
    assert len(await callbacks(database)) == 1


async def test_jobs_that_end_at_once_in_two_workers_leave_one_to_see_it(database: Database) -> None:
    batches = [await a_batch(database, 2) for _ in range(20)]
    jobs = await claim(database, 40)

    async def finish(job: Job) -> None:
        await complete(database, [job])
        assert job.batch_id is not None
        await close_batches(database, [job.batch_id])

    await asyncio.gather(*map(finish, jobs))
    assert {found["args"]["batch_id"] for found in await callbacks(database)} == set(map(str, batches))
    assert len(await callbacks(database)) == 20


async def test_whoever_dies_before_the_commit_has_claimed_nothing(database: Database) -> None:
    batch = await a_batch(database)
    await complete(database, await claim(database))
    forbid = "ALTER TABLE docyard.procrastinate_jobs ADD CONSTRAINT no_report CHECK (task_name <> 'report')"
    await query(database, forbid)
    with pytest.raises(psycopg.errors.CheckViolation):
        await close_batches(database, [batch])
    await query(database, "ALTER TABLE docyard.procrastinate_jobs DROP CONSTRAINT no_report")
    assert len(await close_batches(database)) == 1


ENDS: dict[str, Callable[[PostgresEngine, Job], Awaitable[Any]]] = {
    "completed": lambda engine, job: engine.complete([(job, None)]),
    "dead": lambda engine, job: engine.settle(job, DEAD),
    "cancelled": lambda engine, job: engine.settle(job, Cancel("not wanted")),
}


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_counts(database: Database, end: str) -> None:
    batch = await a_batch(database)
    [job] = await claim(database)
    await ENDS[end](PostgresEngine(database), job)
    assert len(await close_batches(database, [batch])) == 1


async def test_a_job_that_waits_to_be_tried_again_holds_the_callback_back(database: Database) -> None:
    batch = await a_batch(database)
    [job] = await claim(database)
    retry = Failure(code="e", error_class="E", message="", traceback="", retry_in=timedelta(hours=1))
    await PostgresEngine(database).settle(job, retry)
    assert await close_batches(database, [batch]) == []
    await make_due(database)
    await complete(database, await claim(database))
    assert len(await close_batches(database, [batch])) == 1


async def test_an_empty_batch_has_not_begun(database: Database) -> None:
    await create_batch(database, "b", CALLBACK)
    assert await close_batches(database) == []


async def test_a_retried_job_brings_no_second_callback(database: Database) -> None:
    batch = await a_batch(database)
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, DEAD)
    await close_batches(database)
    await Inspection(database).retry([job.id])
    await complete(database, await claim(database))
    assert await close_batches(database, [batch]) == []
    assert len(await callbacks(database)) == 1


async def test_a_callback_may_belong_to_another_batch(database: Database) -> None:
    outer = await create_batch(database, "outer")
    inner = await a_batch(database, callback=NewJob("report", batch_id=outer))
    await complete(database, await claim(database))
    await close_batches(database, [inner])
    assert (await batch_progress(database, outer)).waiting == 1


@pytest.mark.parametrize("payload", [{"batch_id": "mine"}, {"what": object()}])
async def test_a_callback_that_cannot_be_is_refused_at_once(database: Database, payload: Any) -> None:
    with pytest.raises(InvalidInput):
        await create_batch(database, "b", NewJob("report", payload))
    assert await list_batches(database) == []


async def test_jobs_of_a_paused_batch_are_left_alone_until_it_is_resumed(database: Database) -> None:
    paused, other = await a_batch(database, 2), await a_batch(database, 1)
    await add(database)
    await pause_batch(database, paused)
    assert await state_of(database, paused) == "paused"
    assert sorted(job.batch_id == other for job in await claim(database)) == [False, True]
    assert await Inspection(database).unfinished(["work"], None) == 2, "a drain does not wait for it"
    await resume_batch(database, paused)
    assert [job.batch_id for job in await claim(database)] == [paused, paused]
    assert await state_of(database, paused) == "running"


async def test_a_running_job_of_a_paused_batch_ends_as_ever(database: Database) -> None:
    batch = await a_batch(database)
    jobs = await claim(database)
    await pause_batch(database, batch)
    await complete(database, jobs)
    assert await state_of(database, batch) == "finished"
    assert len(await close_batches(database, [batch])) == 1


async def test_a_cancel_ends_what_waits_and_asks_what_runs(database: Database) -> None:
    batch = await a_batch(database, 1500)
    [job] = await claim(database, 1)
    [elsewhere] = await add(database)
    assert await cancel_batch(database, batch) == (1499, 1)
    progress = await batch_progress(database, batch)
    assert (progress.state, progress.cancelled, progress.running) == ("cancelled", 1499, 1)
    assert not progress.has_ended
    assert (await row(database, job.id))["abort_requested"]
    assert (await row(database, elsewhere))["status"] == "todo"
    assert await callbacks(database) == []
    await PostgresEngine(database).settle(job, Cancel("asked to"))
    assert len(await close_batches(database, [batch])) == 1
    assert (await batch_progress(database, batch)).has_ended


async def test_a_cancel_of_what_only_waits_enqueues_the_callback_itself(database: Database) -> None:
    batch = await a_batch(database, 3)
    assert await cancel_batch(database, batch) == (3, 0)
    assert len(await callbacks(database)) == 1


async def test_a_cancel_of_a_finished_batch_leaves_it_finished(database: Database) -> None:
    batch = await a_batch(database, callback=None)
    await complete(database, await claim(database))
    assert await cancel_batch(database, batch) == (0, 0)
    assert await state_of(database, batch) == "finished"


async def test_what_a_running_job_adds_to_a_cancelled_batch_is_cancelled_too(database: Database) -> None:
    batch = await a_batch(database, 1, callback=None)
    [job] = await claim(database)
    await cancel_batch(database, batch)
    await add(database, batch_id=batch)
    await complete(database, [job])
    assert await state_of(database, batch) == "running"
    await close_batches(database)
    assert await states(database) == ["completed", "cancelled"]
    assert await state_of(database, batch) == "cancelled"


async def test_a_cancelled_batch_can_be_run_again(database: Database) -> None:
    batch = await a_batch(database, 2, callback=None)
    await cancel_batch(database, batch)
    await Inspection(database).retry([job.id for job in await Inspection(database).jobs(batch_id=batch)])
    await close_batches(database)
    assert await state_of(database, batch) == "running"
    await complete(database, await claim(database))
    assert await state_of(database, batch) == "finished"


async def test_the_newest_batches_are_listed_first(database: Database) -> None:
    batches = [await create_batch(database, f"batch {number}") for number in range(4)]
    found = await list_batches(database, limit=3)
    assert [batch.batch_id for batch in found] == batches[:0:-1]
    assert found[0].label == "batch 3"


@pytest.mark.parametrize("change", [pause_batch, resume_batch, cancel_batch])
async def test_an_unknown_batch_is_said_to_be_unknown(database: Database, change: Any) -> None:
    unknown = uuid4()
    with pytest.raises(NotFound, match=str(unknown)):
        await change(database, unknown)
