"""A claim takes what is runnable, most urgent first, and each job once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import opened
from support.queueing import (
    KINDS,
    add,
    claim,
    make_due,
    query,
    row,
    state,
    states,
    until_somebody_waits_for_a_lock,
)

from docyard_queue import NewJob, PostgresEngine, Snooze

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database


async def test_priority_comes_first_and_then_age(database: Database) -> None:
    priorities = [0, 5, 0, -1, 5]
    ids = await add(database, *[NewJob("work", priority=priority) for priority in priorities])
    taken = [job.id for job in await claim(database)]
    assert taken == [ids[1], ids[4], ids[0], ids[2], ids[3]]


async def test_it_never_takes_more_than_the_slots(database: Database) -> None:
    await add(database, *[NewJob("work")] * 5)
    assert [len(await claim(database, 2)) for _ in range(4)] == [2, 2, 1, 0]


async def test_it_counts_the_attempt_and_bumps_the_lease(database: Database) -> None:
    [job_id] = await add(database, NewJob("work", {"n": 1}, timeout=timedelta(seconds=9)))
    [job] = await claim(database, worker=42)
    assert (job.id, job.kind, job.payload, job.attempt, job.lease) == (job_id, "work", {"n": 1}, 1, 1)
    assert job.timeout_seconds == 9
    stored = await row(database, job_id)
    assert (stored["status"], stored["attempts"], stored["lease"], stored["worker_id"]) == ("doing", 1, 1, 42)
    assert stored["started_at"] is not None


async def test_a_handlers_limit_is_written_down_unless_the_job_has_its_own(database: Database) -> None:
    theirs, own = await add(database, NewJob("work"), NewJob("work", max_attempts=9))
    assert [job.max_attempts for job in await claim(database, kinds={"work": 4, "other": 1})] == [4, 9]
    assert (await row(database, theirs))["max_attempts"] == 4
    assert (await row(database, own))["max_attempts"] == 9


async def test_claim_skips_jobs_locked_by_another_worker(database: Database, url: str) -> None:
    await add(database, *[NewJob("work")] * 3)
    async with await psycopg.AsyncConnection.connect(url) as holder:
        await holder.execute("SELECT FROM docyard.procrastinate_jobs WHERE id = 1 FOR UPDATE")
        taken = await asyncio.wait_for(claim(database), 5)
    assert [job.id for job in taken] == [2, 3]


@pytest.mark.fault(13)
async def test_eight_claimers_take_two_thousand_jobs_each_exactly_once(url: str, database: Database) -> None:
    ids = await add(
        database, *[NewJob("work", lock_key=f"l{n % 500}" if n % 2 else None) for n in range(2000)]
    )
    taken: list[int] = []

    async def claimer(number: int) -> None:
        async with opened(url, pool_min_size=1, pool_max_size=1) as own:
            while True:
                jobs = await claim(own, 37, worker=number)
                if not jobs:
                    return
                taken.extend(job.id for job in jobs)

    await asyncio.gather(*(claimer(number) for number in range(1, 9)))
    # Of each of the 500 locks only the first of its jobs may run.
    locked = [job_id for n, job_id in enumerate(ids) if n % 2][:250]
    assert sorted(taken) == sorted([*ids[::2], *locked])
    [found] = await query(
        database, "SELECT max(attempts) AS most, max(lease) AS lease FROM docyard.procrastinate_jobs"
    )
    assert (found["most"], found["lease"]) == (1, 1)


@pytest.mark.fault(16)
async def test_an_unknown_kind_is_left_and_burns_no_attempt(database: Database) -> None:
    unknown, known = await add(database, NewJob("of the next release", priority=9), NewJob("work"))
    assert [job.id for job in await claim(database)] == [known]
    assert (await row(database, unknown))["attempts"] == 0
    assert await state(database, unknown) == "available"


async def test_a_paused_queue_is_left(database: Database) -> None:
    await query(database, "INSERT INTO docyard.queues (name, paused) VALUES ('slow', true), ('fast', false)")
    _, fast = await add(database, NewJob("work", queue="slow"), NewJob("work", queue="fast"))
    assert [job.id for job in await claim(database)] == [fast]
    await query(database, "UPDATE docyard.queues SET paused = false")
    assert len(await claim(database)) == 1


async def test_a_worker_serves_only_its_queues(database: Database) -> None:
    a, _, c = await add(database, *[NewJob("work", queue=name) for name in "abc"])
    assert [job.id for job in await claim(database, queues=["a", "c", "none"])] == [a, c]


@pytest.mark.fault(8)
async def test_a_job_is_not_taken_before_its_time_by_the_databases_clock(url: str) -> None:
    at = datetime(2040, 1, 1, tzinfo=UTC)
    async with opened(url, pool_min_size=1, pool_max_size=1) as database:
        [job_id] = await add(database, NewJob("work", run_at=at))
        assert await claim(database) == []
        await query(database, "SET docyard.now = '2040-01-01 00:00:00+00'")
        taken = await claim(database)
        assert [(job.id, job.started_at) for job in taken] == [(job_id, at)]


# Locks


async def finish(database: Database, job: Job) -> None:
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'succeeded' WHERE id = %s", job.id)


@pytest.mark.fault(14)
async def test_jobs_of_one_lock_run_one_at_a_time_in_order(database: Database) -> None:
    ids = await add(database, *[NewJob("work", lock_key="l")] * 3, NewJob("work", lock_key="l", priority=1))
    order = []
    for _ in range(4):
        [job] = await claim(database)
        assert await claim(database) == []
        order.append(job.id)
        await finish(database, job)
    assert order == [ids[3], *ids[:3]]


async def test_a_job_that_waits_for_its_retry_keeps_its_lock(database: Database) -> None:
    first, second = await add(database, *[NewJob("work", lock_key="l")] * 2)
    await claim(database)
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET status = 'todo', scheduled_at = now() + '1 hour' "
        "WHERE id = %s",
        first,
    )
    assert await state(database, first) == "retryable"
    assert await claim(database) == []
    await make_due(database)
    assert [job.id for job in await claim(database)] == [first]
    assert await state(database, second) == "available"


async def test_a_job_that_was_snoozed_keeps_its_lock_and_the_order(database: Database) -> None:
    first, _ = await add(database, *[NewJob("work", lock_key="l")] * 2)
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, Snooze(timedelta(hours=1)))
    assert (await row(database, first))["attempts"] == 0
    assert await claim(database) == []
    await make_due(database)
    assert [job.id for job in await claim(database)] == [first]


@pytest.mark.fault(21)
async def test_a_future_job_that_never_ran_blocks_nobody(database: Database) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    _, ready = await add(
        database, NewJob("work", lock_key="l", run_at=tomorrow, priority=9), NewJob("work", lock_key="l")
    )
    assert [job.id for job in await claim(database)] == [ready]


@pytest.mark.fault(23)
async def test_a_more_urgent_job_with_the_same_lock_does_not_fail_the_batch(
    database: Database, url: str
) -> None:
    plain, locked, other = await add(
        database, NewJob("work"), NewJob("work", lock_key="l"), NewJob("work", lock_key="m")
    )
    async with await psycopg.AsyncConnection.connect(url) as overtaker:
        # It arrives and begins after the batch has looked and before it has written: it is not committed yet.
        await overtaker.execute(
            "INSERT INTO docyard.procrastinate_jobs "
            "(queue_name, task_name, lock, priority, status, attempts) "
            "VALUES ('default', 'work', 'l', 5, 'doing', 1)"
        )
        batch = asyncio.create_task(claim(database))
        await until_somebody_waits_for_a_lock(url)
        await overtaker.commit()
        taken = [job.id for job in await asyncio.wait_for(batch, 10)]
    assert taken == [plain, other]
    assert await state(database, locked) == "available"
    assert (await row(database, locked))["attempts"] == 0
    assert await states(database) == ["running", "available", "running", "running"]


async def test_a_job_that_waited_too_long_is_taken_whatever_its_priority(database: Database) -> None:
    await add(database, *[NewJob("work", priority=priority) for priority in (5, 5, 0, -3)])
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET created_at = now() - interval '2 min' WHERE priority < 5",
    )
    engine = PostgresEngine(database)
    taken = await engine.claim_aged(1, slots=2, kinds=KINDS, queues=None)
    assert sorted(job.priority for job in taken) == [-3, 0]
    assert await engine.claim_aged(1, slots=2, kinds=KINDS, queues=None) == []


async def test_of_several_queues_the_most_urgent_jobs_come_first(database: Database) -> None:
    wanted = (("a", 1), ("b", 3), ("a", 2), ("c", 2), ("b", 1), ("c", 9), ("a", 0))
    await add(database, *[NewJob("work", queue=queue, priority=priority) for queue, priority in wanted])
    taken = [await claim(database, slots) for slots in (3, 2, 2)]
    assert [sorted((job.priority for job in jobs), reverse=True) for jobs in taken] == [
        [9, 3, 2],
        [2, 1],
        [1, 0],
    ]


async def test_jobs_whose_time_has_come_keep_their_priority(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, priority, scheduled_at) "
        "SELECT 'default', 'work', priority, now() - seconds * interval '1 s' "
        "FROM (VALUES (1, 5), (3, 1), (2, 9), (7, -60)) AS given (priority, seconds)",
    )
    await add(database, NewJob("work", priority=2), NewJob("work", priority=0))
    assert [job.priority for job in await claim(database, 3)] == [3, 2, 2]
    assert [job.priority for job in await claim(database, 9)] == [1, 0]


async def test_priorities_are_compared_between_queues_at_every_level(database: Database) -> None:
    await add(database, NewJob("work", queue="a", priority=5), NewJob("work", queue="a", priority=1))
    await add(database, NewJob("work", queue="b", priority=3))
    assert [job.priority for job in await claim(database, 2)] == [5, 3]


async def test_a_kind_that_nobody_knows_hides_no_other_queues_more_urgent_job(database: Database) -> None:
    await add(database, NewJob("unknown", queue="a", priority=5), NewJob("work", queue="a", priority=1))
    await add(database, NewJob("work", queue="b", priority=3))
    assert [job.priority for job in await claim(database, 1)] == [3]
    assert [job.priority for job in await claim(database, 1)] == [1]


async def test_of_very_many_priorities_in_two_queues_all_jobs_are_found(database: Database) -> None:
    await add(database, *[NewJob("work", queue="ab"[number % 2], priority=number) for number in range(60)])
    taken = [job.priority for _ in range(7) for job in await claim(database, 10)]
    assert sorted(taken, reverse=True)[:16] == sorted(taken[:16], reverse=True)
    assert sorted(taken) == [*range(60)]
