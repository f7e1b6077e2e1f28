"""One enum, one diagram, one SQL function: they agree."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import query

from docyard_queue import JobState, states
from docyard_queue.states import state_of

if TYPE_CHECKING:
    from docyard_schema import Database

STATUSES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMES = (None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1))
DESIGNED = [
    "id", "kind", "queue", "state", "priority", "attempts", "max_attempts", "lock_key", "unique_key",
    "batch_id", "worker_id", "created_at", "run_at", "started_at", "finished_at",
    "error_code", "error_message", "progress",
]  # fmt: skip


async def test_python_and_sql_agree_on_every_status_attempt_and_time(database: Database) -> None:
    combinations = list(itertools.product(STATUSES, (0, 1, 7), TIMES))
    async with database.connection() as connection:
        await connection.execute(f"SET docyard.now = '{NOW.isoformat()}'".encode())
        told = {}
        for combination in combinations:
            cursor = await connection.execute(
                database.sql(
                    "SELECT docyard.job_state(%s::docyard.procrastinate_job_status, %s::integer, "
                    "%s::timestamptz)"
                ),
                combination,
            )
            [told[combination]] = await cursor.fetchone() or [None]
        await connection.execute("RESET docyard.now")
    assert told == {
        (status, attempts, at): state_of(status, attempts, at, NOW) for status, attempts, at in combinations
    }
    assert set(told.values()) == set(JobState), "every state can be reached"


async def test_every_status_that_procrastinate_knows_has_a_state(database: Database) -> None:
    stored = await query(
        database,
        "SELECT unnest(enum_range(NULL::docyard.procrastinate_job_status))::text AS status",
    )
    assert {found["status"] for found in stored} == set(STATUSES)


def test_the_diagram_names_every_state_and_no_other() -> None:
    diagram = (states.__doc__ or "").split("::", 1)[1].split("Three of them", 1)[0]
    words = set(re.findall(r"[a-z]{4,}", diagram))
    assert set(JobState) <= words
    arrows = {
        "enqueue",
        "time",
        "comes",
        "claim",
        "backoff",
        "ends",
        "fail",
        "cancel",
        "last",
        "attempt",
        "retry",
    }
    assert words <= set(JobState) | arrows


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_final_when_no_arrow_but_a_persons_leaves_it(state: JobState) -> None:
    assert state.is_final == (state in ("completed", "cancelled", "dead"))


async def test_the_view_of_jobs_has_the_designed_columns_in_order(database: Database) -> None:
    columns = await query(
        database,
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = 'jobs' ORDER BY ordinal_position",
        database.namespace.schema,
    )
    assert [found["column_name"] for found in columns] == DESIGNED
