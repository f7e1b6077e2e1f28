"""procrastinate's own client changes jobs, and leaves none in a state that docyard's workers do not know."""

from __future__ import annotations

import asyncio
import random
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import procrastinate
import psycopg
import pytest
from procrastinate.jobs import Status
from psycopg.conninfo import make_conninfo
from support.queueing import (
    add,
    attempts,
    claim,
    claim_one,
    query,
    rescue_all,
    row,
    state,
    states,
    until_somebody_waits_for_a_lock,
)
from support.working import drain

from docyard_queue import (
    Backoff,
    NewJob,
    PostgresEngine,
    Registry,
    batch_progress,
    cancel_batch,
    create_batch,
)
from docyard_queue.outcomes import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate.manager import JobManager

    from docyard_queue import Job
    from docyard_schema import Database

DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def client(url: str, database: Database) -> AsyncIterator[JobManager]:
    """The job manager of a vanilla application."""
    conninfo = make_conninfo(url, options="-c search_path=public,docyard")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))
    async with app.open_async():
        yield app.job_manager


async def living_worker(database: Database) -> int:
    [made] = await query(
        database,
        "INSERT INTO docyard.procrastinate_workers (last_heartbeat, heartbeat_seconds) "
        "VALUES (docyard.clock(), 60) RETURNING id",
    )
    return int(made["id"])


async def dead(database: Database, **options: Any) -> Job:
    job = await claim_one(database, **options)
    await PostgresEngine(database).settle(job, DEATH)
    return job


async def retry(client: JobManager, job_id: int, **options: Any) -> None:
    await client.retry_job_by_id_async(job_id, **({"retry_at": datetime.now(UTC)} | options))


def said(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """What the database said below procrastinate's own exception."""
    return f"{caught.value} {caught.value.__cause__}"


async def test_a_retry_gives_all_attempts_back_and_keeps_the_fence(
    database: Database, client: JobManager
) -> None:
    job = await dead(database, max_attempts=1)
    await retry(client, job.id)
    again = await row(database, job.id)
    assert (again["status"], again["attempts"], again["lease"]) == ("todo", 0, job.lease)
    assert (again["finished_at"], again["error_code"], again["worker_id"]) == (None, None, None)
    [held] = await claim(database)
    assert (held.attempt, held.lease) == (1, job.lease + 1)
    assert await PostgresEngine(database).complete([(job, None)]) == [job]
    assert await state(database, job.id) == "running"


async def test_a_retry_may_change_when_where_and_how_urgently_it_runs(
    database: Database, client: JobManager
) -> None:
    job = await dead(database)
    await retry(client, job.id, retry_at=LATER, priority=9, queue="elsewhere", lock="l")
    again = await row(database, job.id)
    assert (again["scheduled_at"], again["priority"], again["queue_name"], again["lock"]) == (
        LATER, 9, "elsewhere", "l",
    )  # fmt: skip
    assert await state(database, job.id) == "scheduled"


async def test_a_retry_that_meets_a_waiting_sibling_gives_its_unique_key_up(
    database: Database, client: JobManager
) -> None:
    job = await dead(database, unique_key="k")
    await add(database, unique_key="k")
    await retry(client, job.id)
    assert (await row(database, job.id))["queueing_lock"] is None
    assert await states(database) == ["available", "available"]


async def test_a_sibling_that_begins_to_wait_during_the_retry_is_met_too(
    database: Database, client: JobManager, url: str
) -> None:
    job = await dead(database, unique_key="k")
    async with database.transaction() as connection:
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.procrastinate_jobs (task_name, queue_name, queueing_lock) "
                "VALUES ('work', 'default', 'k')"
            )
        )
        retrying = asyncio.create_task(retry(client, job.id))
        await until_somebody_waits_for_a_lock(url)
    await retrying
    assert (await row(database, job.id))["queueing_lock"] is None
    assert await states(database) == ["available", "available"]


async def test_a_retry_lets_a_cancelled_batch_go_on_and_wakes_a_worker(
    database: Database, client: JobManager, url: str
) -> None:
    batch = await create_batch(database, "b")
    [job_id] = await add(database, batch_id=batch)
    await claim(database)
    await cancel_batch(database, batch)
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'failed', abort_requested = false")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await listener.execute("LISTEN procrastinate_any_queue_v1")
        await retry(client, job_id)
        [notice] = [found async for found in listener.notifies(timeout=10, stop_after=1)]
    assert f'"job_id" : {job_id}' in notice.payload
    assert (await batch_progress(database, batch)).state == "running"


async def test_a_running_job_is_not_torn_away_by_a_retry_or_a_finish(
    database: Database, client: JobManager
) -> None:
    worker = await living_worker(database)
    await add(database)
    [job] = await claim(database, worker=worker)
    with pytest.raises(procrastinate.exceptions.ConnectorException) as caught:
        await retry(client, job.id)
    assert "is running, and its worker lives" in said(caught)
    for delete in (True, False):
        with pytest.raises(procrastinate.exceptions.ConnectorException):
            await client.finish_job_by_id_async(job.id, Status.FAILED, delete_job=delete)
    assert await PostgresEngine(database).complete([(job, None)]) == []
    assert await states(database) == ["completed"]


async def test_a_retry_takes_a_job_from_a_lost_worker_and_tells_of_the_crash(
    database: Database, client: JobManager
) -> None:
    job = await claim_one(database)  # of a worker that never was
    await retry(client, job.id)
    assert await states(database) == ["available"]
    assert [told["outcome"] for told in await attempts(database, job.id)] == ["crashed"]
    # Who held it is refused from now on, and a rescue finds nothing left to take.
    assert await PostgresEngine(database).complete([(job, None)]) == [job]
    assert await rescue_all(database) == []
    assert await states(database) == ["available"]


async def test_a_retry_of_a_lost_job_that_was_to_be_cancelled_cancels_it(
    database: Database, client: JobManager
) -> None:
    job = await claim_one(database)
    assert await client.cancel_job_by_id_async(job.id, abort=True)
    await retry(client, job.id)
    ended = await row(database, job.id)
    assert (ended["status"], ended["abort_requested"]) == ("aborted", False)
    assert ended["finished_at"] is not None


async def test_what_cannot_be_retried_is_refused_in_procrastinates_words(
    database: Database, client: JobManager
) -> None:
    [job_id] = await add(database)
    for wrong in (job_id, 4711):
        with pytest.raises(procrastinate.exceptions.ConnectorException) as caught:
            await retry(client, wrong)
        assert "Job was not found or has an invalid status to retry" in said(caught)


async def test_the_retry_of_an_earlier_client_is_the_same(database: Database) -> None:
    job = await dead(database)
    await query(database, "SELECT docyard.procrastinate_retry_job_v1(%s, now(), NULL, NULL, NULL)", job.id)
    assert (await row(database, job.id))["attempts"] == 0
    assert await states(database) == ["available"]


async def test_a_cancel_writes_the_time_of_the_end(database: Database, client: JobManager) -> None:
    [job_id] = await add(database)
    assert await client.cancel_job_by_id_async(job_id, abort=True)
    ended = await row(database, job_id)
    assert (ended["status"], ended["abort_requested"]) == ("cancelled", False)
    assert ended["finished_at"] is not None
    assert not await client.cancel_job_by_id_async(job_id)


async def test_a_running_job_is_only_asked_to_end(database: Database, client: JobManager) -> None:
    job = await claim_one(database)
    assert not await client.cancel_job_by_id_async(job.id)
    assert not await client.cancel_job_by_id_async(job.id, delete_job=True)
    assert await client.cancel_job_by_id_async(job.id, abort=True)
    asked = await row(database, job.id)
    assert (asked["status"], asked["abort_requested"], asked["finished_at"]) == ("doing", True, None)
    assert await PostgresEngine(database).cancel_requested(1) == [job.id]


async def test_what_is_deleted_takes_its_unique_key_and_attempts_along(
    database: Database, client: JobManager
) -> None:
    job = await claim_one(database, unique_key="k", unique_scope="until_done")
    await PostgresEngine(database).settle(
        job, Failure(code="e", error_class="E", message="m", traceback="t", retry_in=timedelta(hours=1))
    )
    assert await client.cancel_job_by_id_async(job.id, delete_job=True)
    [left] = await query(
        database,
        "SELECT (SELECT count(*) FROM docyard.unique_keys) "
        "+ (SELECT count(*) FROM docyard.job_attempts) AS n",
    )
    assert left["n"] == 0
    assert await add(database, unique_key="k", unique_scope="until_done") != [job.id]


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (Status.SUCCEEDED, "completed", None),
        (Status.FAILED, "dead", "ended_by_hand"),
        (Status.ABORTED, "cancelled", "cancelled"),
    ],
)
async def test_finish_ends_a_waiting_job(
    database: Database, client: JobManager, status: Status, expected: str, code: str | None
) -> None:
    [job_id, gone] = await add(database, NewJob("work"), NewJob("work"))
    await client.finish_job_by_id_async(job_id, status, delete_job=False)
    await client.finish_job_by_id_async(gone, status, delete_job=True)
    assert await states(database) == [expected]
    ended = await row(database, job_id)
    assert (ended["attempts"], ended["error_code"]) == (0, code)
    assert ended["finished_at"] is not None
    with pytest.raises(procrastinate.exceptions.ConnectorException):
        await client.finish_job_by_id_async(job_id, status, delete_job=False)


async def test_finish_ends_the_job_of_a_lost_worker_and_keeps_its_story(
    database: Database, client: JobManager
) -> None:
    job = await claim_one(database)
    await client.finish_job_by_id_async(job.id, Status.FAILED, delete_job=False)
    assert (await row(database, job.id))["attempts"] == 1
    assert [told["outcome"] for told in await attempts(database, job.id)] == ["crashed"]
    assert await states(database) == ["dead"]


async def test_nothing_is_claimed_past_docyards_workers(database: Database, client: JobManager) -> None:
    await add(database)
    with pytest.raises(procrastinate.exceptions.ConnectorException) as caught:
        await client.fetch_job(None, 1)
    assert "claimed by docyard's workers" in said(caught)
    assert await states(database) == ["available"]


async def test_its_lists_and_counts_see_docyards_jobs(database: Database, client: JobManager) -> None:
    job = await dead(database)
    await add(database, NewJob("work", {"a": 1}, lock_key="l", queue="q"))
    listed = list(await client.list_jobs_async())
    assert [(found.id, found.status, found.attempts) for found in listed] == [
        (job.id, "failed", 1), (job.id + 1, "todo", 0),
    ]  # fmt: skip
    assert [found["name"] for found in await client.list_queues_async()] == ["default", "q"]
    assert [found["jobs_count"] for found in await client.list_tasks_async()] == [2]
    assert [found["name"] for found in await client.list_locks_async()] == ["l"]
    assert await client.get_job_status_async(job.id) == Status.FAILED


async def test_stalled_jobs_are_those_of_a_worker_that_fell_silent(
    database: Database, client: JobManager
) -> None:
    worker = await living_worker(database)
    await add(database)
    [job] = await claim(database, worker=worker)
    assert list(await client.get_stalled_jobs()) == []
    await query(
        database, "UPDATE docyard.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
    )
    [stalled] = await client.get_stalled_jobs()
    assert stalled.id == job.id
    # What procrastinate's manual tells people to do with one.
    await client.retry_job(stalled, retry_at=datetime.now(UTC))
    assert await states(database) == ["available"]


async def test_only_workers_that_are_lost_and_hold_nothing_are_forgotten(
    database: Database, client: JobManager
) -> None:
    slow, holding, gone = [await living_worker(database) for _ in range(3)]
    await add(database)
    await claim(database, worker=holding)
    await query(
        database,
        "UPDATE docyard.procrastinate_workers SET last_heartbeat = now() - CASE id WHEN %s "
        "THEN interval '1 min' ELSE interval '1 hour' END",
        slow,
    )
    assert list(await client.prune_stalled_workers(30)) == [gone]
    left = await query(database, "SELECT id FROM docyard.procrastinate_workers ORDER BY id")
    assert [found["id"] for found in left] == [slow, holding]


async def test_without_event_rows_old_jobs_are_left_to_docyards_prune(
    database: Database, client: JobManager
) -> None:
    await PostgresEngine(database).complete([(await claim_one(database), None)])
    await query(database, "UPDATE docyard.procrastinate_jobs SET finished_at = now() - interval '9 days'")
    await client.delete_old_jobs(nb_hours=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(await client.get_stalled_jobs(nb_seconds=0)) == []
    assert await states(database) == ["completed"]


async def test_clients_and_workers_at_once_leave_only_states_that_are_known(
    database: Database, client: JobManager
) -> None:
    chance = random.Random(7)
    ids = await add(
        database,
        *[NewJob("work", unique_key=f"k{number % 40}" if number < 40 else None) for number in range(200)],
    )
    registry = Registry()

    @registry.handler("work", max_attempts=2, backoff=Backoff(base=timedelta(0)))
    async def work(attempt: Any, payload: Any) -> None:
        await asyncio.sleep(0.005)
        if attempt.job.id % 3 == 0:
            raise ValueError("no")

    async def meddle() -> None:
        for _ in range(120):
            job_id = chance.choice(ids)
            with suppress(procrastinate.exceptions.ConnectorException):
                match chance.randrange(4):
                    case 0:
                        await retry(client, job_id)
                    case 1:
                        await client.cancel_job_by_id_async(job_id, abort=True)
                    case 2:
                        await client.finish_job_by_id_async(job_id, Status.FAILED, delete_job=False)
                    case _:
                        await client.cancel_job_by_id_async(job_id, delete_job=True)

    async with asyncio.timeout(60):
        await asyncio.gather(drain(database, registry, concurrency=20), meddle(), meddle(), meddle())
        await drain(database, registry)
    assert set(await states(database)) <= {"completed", "dead", "cancelled"}
    wrong = await query(
        database,
        "SELECT id, status::text, finished_at, abort_requested FROM docyard.procrastinate_jobs "
        "WHERE finished_at IS NULL OR abort_requested "
        "OR lease < (SELECT max(told.lease) FROM docyard.job_attempts AS told WHERE told.job_id = id)",
    )
    assert wrong == []
