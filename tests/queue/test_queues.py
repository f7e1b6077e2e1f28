"""Queues that a person pauses and resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import add, claim, query, state
from support.working import running

from docyard_queue import NewJob, Registry
from docyard_queue.queues import list_queues, pause, resume
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database


async def test_a_paused_queue_keeps_its_jobs_until_it_is_resumed(database: Database) -> None:
    held, free = await add(database, NewJob("work", queue="held"), NewJob("work"))
    await pause(database, "held", reason="the bank is closed")
    assert [job.id for job in await claim(database)] == [free]
    assert await resume(database, "held") is True
    assert [job.id for job in await claim(database)] == [held]


async def test_pausing_leaves_alone_what_runs(database: Database) -> None:
    [job_id] = await add(database)
    await claim(database)
    await pause(database, "default")
    [queue] = await list_queues(database)
    assert (queue.paused, queue.running) == (True, 1)
    [stored] = await query(database, "SELECT state FROM docyard.jobs WHERE id = %s", job_id)
    assert stored["state"] == "running"


async def test_a_queue_that_nobody_has_used_can_be_paused(database: Database) -> None:
    await pause(database, "new")
    await add(database, queue="new")
    assert await claim(database) == []


async def test_pausing_again_changes_the_reason_and_not_the_time(database: Database) -> None:
    await pause(database, "q", reason="one")
    [before] = await list_queues(database)
    await pause(database, "q", reason="two\x00")
    [after] = await list_queues(database)
    assert (before.reason, after.reason) == ("one", "two\N{REPLACEMENT CHARACTER}")
    assert after.paused_at == before.paused_at
    assert before.paused_at is not None
    await resume(database, "q")
    [resumed] = await list_queues(database)
    assert (resumed.paused, resumed.reason, resumed.paused_at) == (False, None, None)


async def test_a_resume_wakes_a_worker_before_its_next_poll(database: Database) -> None:
    registry = Registry()

    @registry.handler("work", queue="held")
    async def work(_attempt: object, _payload: dict[str, object]) -> None:
        return None

    async def listening() -> list[dict[str, object]]:
        return await query(
            database,
            "SELECT 1 FROM pg_stat_activity "
            "WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %%'",
        )

    async def completed() -> bool:
        return await state(database, job_id) == "completed"

    await pause(database, "held")
    [job_id] = await add(database, queue="held")
    # Nothing else would wake it within the test: it polls once in an hour.
    async with running(database, registry, poll_seconds=3600):
        await eventually(listening, what="the worker to listen")
        await resume(database, "held")
        await eventually(completed, what="the job to be completed")


async def test_a_resume_tells_both_channels_and_only_of_jobs_that_wait(database: Database, url: str) -> None:
    await pause(database, "held")
    await pause(database, "empty")
    [job_id] = await add(database, queue="held")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await listener.execute("LISTEN procrastinate_any_queue_v1")
        await listener.execute('LISTEN "procrastinate_queue_v1#held"')
        await listener.execute('LISTEN "procrastinate_queue_v1#empty"')
        assert await resume(database, "empty")
        assert await resume(database, "held")
        heard = [(told.channel, told.payload) async for told in listener.notifies(timeout=1, stop_after=2)]
    assert {channel for channel, _ in heard} == {"procrastinate_any_queue_v1", "procrastinate_queue_v1#held"}
    assert all(str(job_id) in payload for _, payload in heard)


async def test_resuming_what_is_not_paused_changes_nothing(database: Database) -> None:
    assert await resume(database, "unheard-of") is False
    assert await list_queues(database) == []


async def test_a_pause_joins_the_callers_transaction(database: Database) -> None:
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        await pause(database, "q", connection=connection)
    assert await list_queues(database) == []


@pytest.mark.parametrize("name", ["", "q" * 41, "ä" * 21, "a\x00b", "\ud800"])
async def test_a_name_that_no_queue_can_have_is_refused(database: Database, name: str) -> None:
    for change in (pause(database, name), resume(database, name)):
        with pytest.raises(InvalidInput, match="1 to 40 bytes"):
            await change
