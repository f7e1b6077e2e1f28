"""A procrastinate application with the role of a worker, and what event rows need of each role."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import procrastinate
import psycopg
import pytest
from conftest import opened
from psycopg.conninfo import make_conninfo
from support.queueing import claim, query, states

from docyard_queue import Inspection, PostgresEngine
from docyard_queue.outcomes import Failure
from docyard_schema import DatabaseError
from docyard_schema.migrations import write_event_rows

if TYPE_CHECKING:
    from collections.abc import Callable

DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)


async def switch_on(url: str) -> None:
    async with opened(url) as database, database.dedicated() as connection:
        await write_event_rows(connection, database.namespace, wanted=True)


async def test_its_client_defers_retries_cancels_and_deletes(
    as_member: Callable[[str], str], granted: str
) -> None:
    await switch_on(granted)
    url = as_member("worker")
    conninfo = make_conninfo(url, options="-c search_path=public,docyard")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))
    async with opened(url) as database, app.open_async():
        await app.configure_task("work").defer_async(n=1)
        first, second = await claim(database)
        for job in (first, second):
            await PostgresEngine(database).settle(job, DEATH)
        await app.job_manager.retry_job_by_id_async(first.id, retry_at=datetime.now(UTC))
        assert await app.job_manager.cancel_job_by_id_async(first.id)
        assert await states(database) == ["cancelled", "dead"]
        await query(database, "UPDATE docyard.procrastinate_events SET at = at - interval '2 hours'")
        await app.job_manager.delete_old_jobs(nb_hours=1, include_failed=True)
        assert await states(database) == ["cancelled"]


async def test_event_rows_are_written_for_those_who_cannot_write_them(
    as_member: Callable[[str], str], granted: str
) -> None:
    await switch_on(granted)
    with psycopg.connect(as_member("producer")) as connection:
        connection.execute("SELECT docyard.enqueue('work')")
    async with opened(as_member("operator")) as database:
        [job, _] = await Inspection(database).jobs()
        await Inspection(database).cancel([job.id])
    async with opened(granted) as database:
        found = await query(database, "SELECT type::text FROM docyard.procrastinate_events ORDER BY id")
    assert [event["type"] for event in found] == ["deferred", "cancelled"]


@pytest.mark.parametrize("role", ["worker", "operator", "viewer"])
async def test_only_the_owner_switches_them(as_member: Callable[[str], str], role: str) -> None:
    async with opened(as_member(role)) as database, database.dedicated() as connection:
        with pytest.raises(DatabaseError, match="may not change") as caught:
            await write_event_rows(connection, database.namespace, wanted=True)
    assert "As the schema's owner run: docyard db events on" in caught.value.hint
