"""Jobs of workers that are gone are found; those of the living are left alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.queueing import (
    KINDS,
    add,
    attempts,
    claim,
    make_due,
    query,
    rescue_all,
    row,
    state,
    until_somebody_waits_for_a_lock,
)

from docyard_queue import Inspection, NewJob, PostgresEngine
from docyard_queue.rescue import process_scope, rescue
from docyard_queue.selection import Change, Selection, change_selected

if TYPE_CHECKING:
    from docyard_schema import Database


async def a_worker(
    database: Database, *, pid: int = 0, scope: str = "elsewhere", heartbeat: float = 5
) -> int:
    [found] = await query(
        database,
        "INSERT INTO docyard.procrastinate_workers "
        "(last_heartbeat, host, pid, process_scope, heartbeat_seconds) "
        "VALUES (docyard.clock(), 'h', %s, %s, %s) RETURNING id", pid, scope, heartbeat,
    )  # fmt: skip
    return int(found["id"])


async def silence(database: Database, worker: int, seconds: float) -> None:
    await query(
        database,
        "UPDATE docyard.procrastinate_workers "
        "SET last_heartbeat = now() - make_interval(secs => %s) WHERE id = %s",
        seconds, worker,
    )  # fmt: skip


@pytest.mark.parametrize(("silent_for", "lost"), [(14, False), (16, True)])
async def test_a_worker_is_gone_after_three_heartbeats_of_its_own(
    database: Database, silent_for: float, lost: bool
) -> None:
    worker = await a_worker(database, heartbeat=5)
    [job_id] = await add(database)
    await claim(database, worker=worker)
    await silence(database, worker, silent_for)
    rescued = await rescue_all(database)
    assert [job.job_id for job in rescued] == ([job_id] if lost else [])
    assert await state(database, job_id) == ("available" if lost else "running")
    rows = await query(database, "SELECT id FROM docyard.procrastinate_workers")
    assert rows == ([] if lost else [{"id": worker}])


@pytest.mark.fault(3)
async def test_a_crash_counts_as_an_attempt_and_the_last_one_is_a_dead_letter(database: Database) -> None:
    [job_id] = await add(database, NewJob("work", max_attempts=3))
    for attempt in (1, 2, 3):
        await make_due(database)
        [job] = await claim(database)
        assert job.attempt == attempt
        [rescued] = await rescue_all(database)
        assert (rescued.job_id, rescued.attempts, rescued.dead) == (job_id, attempt, attempt == 3)
    [letter] = await query(database, "SELECT * FROM docyard.dead_letters")
    assert (letter["job_id"], letter["attempts"], letter["error_code"]) == (job_id, 3, "crashed")
    told = await attempts(database, job_id)
    assert [(entry["attempt"], entry["lease"], entry["outcome"]) for entry in told] == [
        (1, 1, "crashed"), (2, 2, "crashed"), (3, 3, "crashed"),
    ]  # fmt: skip


async def test_the_first_crash_waits_for_nothing_and_the_second_does(database: Database) -> None:
    [job_id] = await add(database)
    await claim(database)
    await rescue_all(database)
    assert await state(database, job_id) == "available"
    await claim(database)
    await rescue_all(database)
    assert await state(database, job_id) == "retryable"


async def test_a_job_without_a_limit_is_not_retried_for_ever(database: Database) -> None:
    # As a procrastinate worker would have left it.
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, status, attempts) "
        "VALUES ('default', 'work', 'doing', 20)",
    )
    assert [job.dead for job in await rescue_all(database)] == [True]


async def test_a_living_neighbour_is_left_and_a_dead_one_is_gone_at_once(database: Database) -> None:
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    scope = process_scope()
    assert scope, "this machine tells its processes apart"
    worker = await a_worker(database, pid=process.pid, scope=scope)
    other = await a_worker(database, pid=process.pid, scope="another machine")
    [job_id, _] = await add(database, NewJob("work"), NewJob("work"))
    await claim(database, 1, worker=worker)
    await claim(database, 1, worker=other)
    assert await rescue(database, 0, scope=scope) == []
    process.kill()
    # Killed and not yet waited for, it is a zombie that still has its pid.
    while b"Z" not in await asyncio.to_thread(
        subprocess.check_output, ["ps", "-o", "stat=", "-p", str(process.pid)]
    ):
        await asyncio.sleep(0.01)
    assert [job.job_id for job in await rescue(database, 0, scope=scope)] == [job_id]
    await asyncio.to_thread(process.communicate)
    rows = await query(database, "SELECT id FROM docyard.procrastinate_workers")
    assert rows == [{"id": other}], "the same pid on another machine says nothing"


async def test_whoever_asks_is_alive(database: Database) -> None:
    worker = await a_worker(database, pid=os.getpid(), scope=process_scope())
    await add(database)
    await claim(database, worker=worker)
    await silence(database, worker, 3600)
    assert await rescue_all(database, worker) == []


@pytest.mark.fault(4)
async def test_after_being_cut_off_itself_an_asker_takes_nobodys_silence_for_death(
    database: Database,
) -> None:
    silent, gone = await a_worker(database), 4711
    first, second = await add(database, NewJob("work"), NewJob("work"))
    await claim(database, 1, worker=silent)
    await claim(database, 1, worker=gone)
    await silence(database, silent, 3600)
    taken = await rescue(database, 0, scope="", silent=False)
    assert [job.job_id for job in taken] == [second], "only what has no worker at all"
    assert [job.job_id for job in await rescue(database, 0, scope="", silent=True)] == [first]


async def test_two_rescuers_share_what_is_lost(database: Database) -> None:
    ids = await add(database, *[NewJob("work")] * 50)
    await claim(database, 50)
    taken = await asyncio.gather(*(rescue_all(database) for _ in range(4)))
    assert sorted(job.job_id for part in taken for job in part) == ids


async def test_of_two_lost_jobs_with_one_unique_key_the_first_keeps_it(database: Database) -> None:
    ids = []
    for _ in range(2):
        ids += await add(database, NewJob("work", unique_key="k"))
        await claim(database)
    assert len(await rescue_all(database)) == 2
    assert [(await row(database, job_id))["queueing_lock"] for job_id in ids] == ["k", None]


@pytest.mark.fault(19)
async def test_a_rescue_that_meets_a_new_sibling_gives_up_the_key(database: Database, url: str) -> None:
    [job_id] = await add(database, NewJob("work", unique_key="k"))
    await claim(database)
    async with await psycopg.AsyncConnection.connect(url) as sibling:
        await sibling.execute(
            "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, queueing_lock) "
            "VALUES ('q', 'x', 'k')"
        )
        rescuing = asyncio.create_task(rescue_all(database))
        await until_somebody_waits_for_a_lock(url)
        await sibling.commit()
    assert [job.job_id for job in await rescuing] == [job_id]
    assert (await row(database, job_id))["queueing_lock"] is None


async def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    [job_id] = await add(database)
    await claim(database)
    await Inspection(database).cancel([job_id])
    await rescue_all(database)
    assert await state(database, job_id) == "cancelled"


# Who is to blame


async def test_of_several_jobs_of_a_lost_worker_each_gets_its_attempt_back_and_runs_alone(
    database: Database,
) -> None:
    ids = await add(database, *[NewJob("work", max_attempts=1)] * 3)
    claimed = await claim(database, worker=7)
    assert not any(job.alone for job in claimed)
    rescued = await rescue_all(database)
    assert [(job.job_id, job.attempts, job.dead, job.innocent) for job in rescued] == [
        (job_id, 0, False, True) for job_id in ids
    ]
    for job_id in ids:
        stored = await row(database, job_id)
        assert (stored["attempts"], stored["alone"], stored["error_code"]) == (0, True, None)
        assert await state(database, job_id) == "available"
        [told] = await attempts(database, job_id)
        assert (told["outcome"], told["attempt"]) == ("released", 1)
        assert "ran beside others" in told["error_message"]
    assert [job.alone for job in await claim(database, worker=8)] == [True] * 3


async def test_the_only_job_of_a_lost_worker_is_to_blame(database: Database) -> None:
    [job_id, _] = await add(database, NewJob("work", max_attempts=1), NewJob("work"))
    await claim(database, 1, worker=7)
    await claim(database, 1, worker=8)
    assert sorted((job.dead, job.innocent) for job in await rescue_all(database)) == [
        (False, False), (True, False),
    ]  # fmt: skip
    assert (await row(database, job_id))["error_code"] == "crashed"


async def test_jobs_that_two_rescues_take_one_after_the_other_ran_beside_each_other_all_the_same(
    database: Database, url: str
) -> None:
    held, free = await add(database, NewJob("work"), NewJob("work"))
    await claim(database, worker=7)
    async with await psycopg.AsyncConnection.connect(url) as holder:
        await holder.execute("SELECT FROM docyard.procrastinate_jobs WHERE id = %s FOR UPDATE", [held])
        assert [(job.job_id, job.innocent) for job in await rescue_all(database)] == [(free, True)]
    assert [(job.job_id, job.innocent) for job in await rescue_all(database)] == [(held, True)]


async def test_one_that_began_alone_is_to_blame_and_one_that_waited_for_its_turn_is_not(
    database: Database,
) -> None:
    engine = PostgresEngine(database)
    began, waited = await add(database, NewJob("work"), NewJob("work"))
    await claim(database, worker=7)
    await rescue_all(database)
    [first, _] = await claim(database, worker=8)
    assert await engine.begin_alone(first)
    rescued = {job.job_id: job for job in await rescue_all(database)}
    assert (rescued[began].innocent, rescued[began].attempts) == (False, 1)
    assert (rescued[waited].innocent, rescued[waited].attempts) == (True, 0)
    assert [told["outcome"] for told in await attempts(database, began)] == ["released", "crashed"]
    assert not await engine.begin_alone(first), "its lease is lost"
    # What it began once says nothing of the next time.
    await make_due(database)
    await claim(database, worker=9)
    assert all(job.innocent for job in await rescue_all(database))


async def test_jobs_that_always_crash_together_come_to_an_end(database: Database) -> None:
    ids = await add(database, *[NewJob("work", max_attempts=3)] * 4)
    engine, rounds = PostgresEngine(database), 0
    while claimed := await claim(database, worker=rounds + 1):
        rounds += 1
        assert rounds < 10
        for job in claimed:
            assert job.attempt <= job.max_attempts
            assert not job.alone or await engine.begin_alone(job)
        await rescue_all(database)
        await make_due(database)
    assert rounds == 4, "one beside each other, and three alone"
    rows = [await row(database, job_id) for job_id in ids]
    assert [(found["status"], found["attempts"]) for found in rows] == [("failed", 3)] * 4


@pytest.mark.parametrize("by", ["hand", "filter"])
async def test_one_that_a_person_retries_runs_beside_others_again(database: Database, by: str) -> None:
    ids = await add(database, NewJob("work"), NewJob("work"))
    await claim(database, worker=7)
    await rescue_all(database)
    if by == "hand":
        assert await Inspection(database).retry(ids) == ids
    else:
        await Inspection(database).cancel(ids)
        assert await change_selected(database, Change.RETRY, Selection(kind="work")) == ids
    assert [job.alone for job in await claim(database)] == [False, False]


# Claims whose answer was lost


async def test_what_a_worker_claimed_and_never_got_is_given_back(database: Database) -> None:
    engine = PostgresEngine(database)
    ids = await add(database, *[NewJob("work")] * 3)
    held, _, _ = await claim(database, worker=7)
    other = await add(database)
    await claim(database, worker=8)
    assert await engine.release_strays(7, [(held.id, held.lease)], grace_seconds=60) == [], (
        "a claim may be on its way"
    )
    assert await engine.release_strays(7, [(held.id, held.lease)], grace_seconds=0) == ids[1:]
    for job_id in ids[1:]:
        assert await state(database, job_id) == "available"
        assert (await row(database, job_id))["attempts"] == 0
    assert await state(database, held.id) == "running"
    assert await state(database, other[0]) == "running"


async def test_an_older_lease_of_the_same_job_does_not_count_as_held(database: Database) -> None:
    [job_id] = await add(database)
    [job] = await PostgresEngine(database).claim(7, slots=1, kinds=KINDS, queues=None)
    released = await PostgresEngine(database).release_strays(7, [(job.id, job.lease - 1)], grace_seconds=0)
    assert released == [job_id]
