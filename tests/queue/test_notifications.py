"""One notice per statement and queue, in procrastinate's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.queueing import add, claim, query

from docyard_queue import Inspection, NewJob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema import Database

ANY = "procrastinate_any_queue_v1"


class Ear:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def heard(self) -> list[tuple[str, dict[str, Any]]]:
        """All that was said until now."""
        await self._connection.execute("NOTIFY the_end")
        found = []
        async for notification in self._connection.notifies(timeout=10):
            if notification.channel == "the_end":
                break
            found.append((notification.channel, json.loads(notification.payload)))
        return found


@pytest.fixture
async def ear(url: str) -> AsyncIterator[Ear]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for channel in (ANY, "the_end", "procrastinate_queue_v1#a", "procrastinate_queue_v1#b", "x" * 63):
            await connection.execute(f'LISTEN "{channel}"'.encode())
        yield Ear(connection)


def inserted(job_id: int) -> dict[str, Any]:
    return {"type": "job_inserted", "job_id": job_id}


@pytest.mark.fault(11)
async def test_a_statement_tells_each_queue_once_on_both_channels(database: Database, ear: Ear) -> None:
    ids = await add(database, *[NewJob("work", queue=queue) for queue in "aaabbb"])
    heard = await ear.heard()
    expected = [
        ("procrastinate_queue_v1#a", inserted(ids[0])), (ANY, inserted(ids[0])),
        ("procrastinate_queue_v1#b", inserted(ids[3])), (ANY, inserted(ids[3])),
    ]  # fmt: skip
    assert sorted(heard, key=str) == sorted(expected, key=str)


async def test_procrastinates_own_function_tells_once_too(database: Database, ear: Ear) -> None:
    await query(
        database,
        "SELECT docyard.procrastinate_defer_jobs_v1(array_agg(ROW('a', 'work', 0, NULL, NULL, '{}', NULL)"
        "::docyard.procrastinate_job_to_defer_v1)) FROM generate_series(1, 10)",
    )
    assert await ear.heard() == [("procrastinate_queue_v1#a", inserted(1)), (ANY, inserted(1))]


async def test_nothing_is_said_before_the_commit_nor_after_a_rollback(database: Database, ear: Ear) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with database.transaction() as connection:
            from docyard_queue import enqueue_async

            await enqueue_async(connection, NewJob("work", queue="a"))
            assert await ear.heard() == []
            raise ZeroDivisionError
    assert await ear.heard() == []


async def test_a_unique_key_that_waits_already_says_nothing(database: Database, ear: Ear) -> None:
    await add(database, NewJob("work", unique_key="k"))
    await ear.heard()
    await add(database, NewJob("work", unique_key="k"))
    assert await ear.heard() == []


async def test_a_queue_with_a_name_of_forty_bytes_has_its_own_channel(database: Database, url: str) -> None:
    queue = "ü" * 20
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f'LISTEN "procrastinate_queue_v1#{queue}"'.encode())
        await connection.execute("LISTEN the_end")
        [job_id] = await add(database, NewJob("work", queue=queue))
        assert await Ear(connection).heard() == [(f"procrastinate_queue_v1#{queue}", inserted(job_id))]


async def test_a_longer_name_is_told_of_on_the_channel_of_all(database: Database, ear: Ear) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name) VALUES (repeat('q', 128), 'work')",
    )
    assert await ear.heard() == [(ANY, inserted(1))]


async def test_a_cancel_of_a_running_job_is_told_as_procrastinate_does(database: Database, ear: Ear) -> None:
    [job_id] = await add(database, NewJob("work", queue="a"))
    await claim(database)
    await ear.heard()
    await Inspection(database).cancel([job_id])
    notice = {"type": "abort_job_requested", "job_id": job_id}
    assert await ear.heard() == [("procrastinate_queue_v1#a", notice), (ANY, notice)]


async def test_claiming_and_finishing_say_nothing(database: Database, ear: Ear) -> None:
    from docyard_queue import PostgresEngine

    await add(database)
    await ear.heard()
    [job] = await claim(database)
    await PostgresEngine(database).complete([(job, None)])
    assert await ear.heard() == []
    assert await query(database, "SELECT * FROM docyard.procrastinate_events") == [], "event rows are off"
