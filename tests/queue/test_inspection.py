"""What a person may see of jobs, and do to them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from support.queueing import (
    add,
    claim,
    claim_one,
    query,
    rescue_all,
    row,
    state,
    until_somebody_waits_for_a_lock,
)

from docyard_queue import Cancel, Inspection, NewJob, PostgresEngine, batch_progress, create_batch
from docyard_queue.outcomes import Failure
from docyard_schema.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database

TOMORROW = datetime.now(UTC) + timedelta(days=1)
DEATH = Failure(code="exception", error_class="ValueError", message="no", traceback="tb", retry_in=None)


async def dead(database: Database, **options: object) -> Job:
    job = await claim_one(database, **options)
    await PostgresEngine(database).settle(job, DEATH)
    return job


async def test_jobs_are_listed_newest_first_by_every_filter(database: Database) -> None:
    batch = await create_batch(database, "b")
    ids = await add(
        database, NewJob("work", batch_id=batch), NewJob("other", queue="q"), NewJob("work", run_at=TOMORROW)
    )
    inspection = Inspection(database)

    async def listed(**filters: object) -> list[int]:
        return [job.id for job in await inspection.jobs(**filters)]  # type: ignore[arg-type]

    assert await listed() == ids[::-1]
    assert await listed(limit=1) == [ids[2]]
    assert await listed(kind="work") == [ids[2], ids[0]]
    assert await listed(queue="q") == [ids[1]]
    assert await listed(state="scheduled") == [ids[2]]
    assert await listed(batch_id=batch) == [ids[0]]
    assert await listed(state="dead") == []
    with pytest.raises(InvalidInput, match="no job state 'todo'"):
        await listed(state="todo")


async def test_a_job_is_shown_with_its_attempts(database: Database) -> None:
    job = await dead(database)
    inspection = Inspection(database)
    shown = await inspection.job(job.id)
    assert (shown.state, shown.attempts, shown.error_code, shown.error_message) == (
        "dead",
        1,
        "exception",
        "no",
    )
    [attempt] = await inspection.attempts(job.id)
    assert (attempt.outcome, attempt.error_class, attempt.traceback) == ("failed", "ValueError", "tb")
    assert await inspection.payload_and_result(job.id) == ({}, None, None)


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    inspection = Inspection(database)
    for work in (
        inspection.job(7), inspection.payload_and_result(7), inspection.retry([7, 8]), inspection.cancel([7]),
        batch_progress(database, uuid4()),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=r"There is no (job 7|batch)"):
            await work


async def test_a_retry_begins_anew_with_all_attempts_and_wakes_workers(database: Database, url: str) -> None:
    job = await dead(database, max_attempts=1)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await listener.execute("LISTEN procrastinate_any_queue_v1")
        assert await Inspection(database).retry([job.id]) == [job.id]
        async for notification in listener.notifies(timeout=5, stop_after=1):
            assert f'"job_id" : {job.id}' in notification.payload
            break
        else:
            raise AssertionError("nobody was told")
    stored = await row(database, job.id)
    assert (stored["attempts"], stored["error_code"], stored["finished_at"]) == (0, None, None)
    [again] = await claim(database)
    assert (again.id, again.attempt, again.lease) == (job.id, 1, 2)


async def test_only_what_has_ended_badly_or_waits_is_retried(database: Database) -> None:
    engine, inspection = PostgresEngine(database), Inspection(database)
    done = await claim_one(database)
    await engine.complete([(done, 1)])
    running = await claim_one(database)
    cancelled = await claim_one(database)
    await engine.settle(cancelled, Cancel("unwanted"))
    [later] = await add(database, NewJob("work", run_at=TOMORROW))
    ids = [done.id, running.id, cancelled.id, later]
    assert await inspection.retry(ids) == [cancelled.id, later]
    assert [await state(database, job_id) for job_id in ids] == [
        "completed",
        "running",
        "available",
        "available",
    ]
    assert await inspection.retry([done.id]) == []


async def test_of_retried_jobs_with_one_unique_key_the_first_keeps_it(database: Database) -> None:
    first, second = [await dead(database, unique_key="k") for _ in range(2)]
    assert await Inspection(database).retry([second.id, first.id]) == [first.id, second.id]
    assert [(await row(database, job.id))["queueing_lock"] for job in (first, second)] == ["k", None]


async def test_a_retried_job_leaves_its_key_to_one_that_waits(database: Database) -> None:
    job = await dead(database, unique_key="k")
    [waiting] = await add(database, NewJob("work", unique_key="k"))
    await Inspection(database).retry([job.id, waiting])
    assert (await row(database, job.id))["queueing_lock"] is None
    assert (await row(database, waiting))["queueing_lock"] == "k"


async def test_a_waiting_job_is_cancelled_and_a_running_one_asked_to_end(database: Database) -> None:
    running = await claim_one(database)
    waiting, later = await add(database, NewJob("work"), NewJob("work", run_at=TOMORROW))
    cancelled = await Inspection(database).cancel([running.id, waiting, later])
    assert cancelled == {running.id: True, waiting: False, later: False}
    assert [await state(database, job_id) for job_id in cancelled] == ["running", "cancelled", "cancelled"]
    assert (await row(database, waiting))["finished_at"] is not None
    assert await PostgresEngine(database).cancel_requested(1) == [running.id]
    assert await Inspection(database).cancel([waiting]) == {}, "it had ended"


@pytest.mark.parametrize("word", ["retry", "cancel"])
async def test_what_met_a_deadlock_is_tried_again(database: Database, url: str, word: str) -> None:
    first, second = await add(database, NewJob("work"), NewJob("work"))
    lock = database.sql("SELECT FROM docyard.procrastinate_jobs WHERE id = %s FOR UPDATE")
    async with database.transaction() as connection:
        # Somebody's own SQL, the wrong way round. It waits longer, so it is the person's word that gives way.
        await connection.execute(b"SET LOCAL deadlock_timeout = '20s'")
        await connection.execute(lock, [second])
        changing = asyncio.create_task(getattr(Inspection(database), word)([first, second]))
        await until_somebody_waits_for_a_lock(url)
        await connection.execute(lock, [first])
    assert sorted(await changing) == [first, second]


async def test_a_running_job_in_a_queue_with_a_long_name_can_be_cancelled(database: Database) -> None:
    # procrastinate allows 128 characters; the queue's own channel would not.
    [job_id] = await add(database)
    await query(database, "UPDATE docyard.procrastinate_jobs SET queue_name = repeat('q', 128)")
    await claim(database)
    assert await Inspection(database).cancel([job_id]) == {job_id: True}


async def test_a_job_that_procrastinates_client_cancelled_can_be_retried(database: Database) -> None:
    [job_id] = await add(database)
    await query(database, "SELECT docyard.procrastinate_cancel_job_v1(%s, true, false)", job_id)
    assert await state(database, job_id) == "cancelled"
    assert await Inspection(database).retry([job_id]) == [job_id]
    assert await state(database, job_id) == "available"


async def test_workers_are_shown_until_they_sign_off(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_workers "
        "(last_heartbeat, host, pid, queues, heartbeat_seconds, state) "
        "VALUES (now(), 'a', 1, NULL, 5, 'stopping'), (now() - interval '16 s', 'b', 2, '{x}', 5, 'running')",
    )
    first, second = await Inspection(database).workers()
    assert (first.host, first.state, first.queues) == ("a", "stopping", None)
    assert (second.host, second.state, second.queues) == ("b", "lost", ["x"])
    await rescue_all(database)
    assert [worker.host for worker in await Inspection(database).workers()] == ["a"]


async def test_queues_are_counted_by_state(database: Database) -> None:
    await query(database, "INSERT INTO docyard.queues (name, paused) VALUES ('empty', true)")
    await dead(database)
    await PostgresEngine(database).complete([(await claim_one(database), None)])
    await claim_one(database)
    await add(database, NewJob("work"), NewJob("work", run_at=TOMORROW))
    default, empty = await Inspection(database).queues()
    assert (default.queue, default.available, default.scheduled, default.running) == ("default", 1, 1, 1)
    assert (default.dead, default.completed_24h, default.retryable) == (1, 1, 0)
    assert default.oldest_available_s is not None
    assert (empty.queue, empty.paused, empty.available, empty.oldest_available_s) == ("empty", True, 0, None)


async def test_a_batch_tells_how_far_it_is(database: Database) -> None:
    batch, engine = await create_batch(database, "b"), PostgresEngine(database)
    assert (await batch_progress(database, batch)).total == 0
    await add(database, *[NewJob("work", batch_id=batch)] * 6)
    done, died, unwanted, _ = await claim(database, 4)
    await engine.complete([(done, None)])
    await engine.settle(died, DEATH)
    await engine.settle(unwanted, Cancel("no"))
    told = await batch_progress(database, batch)
    counts = (told.total, told.waiting, told.running, told.completed, told.dead, told.cancelled)
    assert counts == (6, 2, 1, 1, 1, 1)
    assert (told.state, told.ended) == ("running", 3)
    assert told.rate is not None
    assert told.rate > 0
    assert told.eta == pytest.approx(timedelta(seconds=3 / told.rate), rel=0.01)
    for job in await claim(database):
        await engine.complete([(job, None)])
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'succeeded' WHERE status = 'doing'")
    assert (await batch_progress(database, batch)).state == "finished"
