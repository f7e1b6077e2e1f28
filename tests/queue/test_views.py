"""docs/views.md and the catalogue say the same, and the views tell what happened."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from support.queueing import add, attempts, claim, claim_one, make_due, query, rescue_all, state

from docyard_queue import Inspection, NewJob, PostgresEngine, Snooze
from docyard_queue.outcomes import Failure

if TYPE_CHECKING:
    from docyard_schema import Database

PAGE = Path(__file__).parents[2] / "docs" / "views.md"
RETRY = Failure(code="exception", error_class="E", message="m", traceback="t", retry_in=timedelta(hours=1))


def documented() -> dict[str, list[tuple[str, str]]]:
    sections = re.split(r"^## (\w+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    row = re.compile(r"^\| `(\w+)` \| ([^|]+) \| (?=\S)", re.MULTILINE)
    return {view: row.findall(text) for view, text in zip(sections[::2], sections[1::2], strict=True)}


async def test_every_view_is_documented_column_by_column(database: Database) -> None:
    found = await query(
        database,
        "SELECT class.relname AS view, attribute.attname AS name, "
        "format_type(attribute.atttypid, attribute.atttypmod) AS type "
        "FROM pg_class AS class JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid "
        "WHERE class.relnamespace = 'docyard'::regnamespace AND class.relkind = 'v' AND attribute.attnum > 0 "
        "ORDER BY class.relname, attribute.attnum",
    )
    catalogue: dict[str, list[tuple[str, str]]] = {}
    for column in found:
        catalogue.setdefault(column["view"], []).append((column["name"], column["type"]))
    assert documented() == catalogue


async def test_every_attempt_is_told_once_whatever_became_of_it(database: Database) -> None:
    engine = PostgresEngine(database)
    job = await claim_one(database, max_attempts=3)
    await engine.settle(job, Snooze(timedelta(hours=1)))
    await make_due(database)
    [job] = await claim(database)
    await engine.settle(job, RETRY)
    await make_due(database)
    await claim(database)
    await rescue_all(database)
    await make_due(database)
    [job] = await claim(database)
    told = await attempts(database, job.id)
    assert [(entry["lease"], entry["attempt"], entry["outcome"]) for entry in told] == [
        (1, 1, "snoozed"), (2, 1, "failed"), (3, 2, "crashed"), (4, 3, "running"),
    ]  # fmt: skip
    assert told[-1]["finished_at"] is None
    await engine.complete([(job, None)])
    last = (await attempts(database, job.id))[-1]
    assert (last["outcome"], last["finished_at"] is None) == ("completed", False)


async def test_a_waiting_or_cancelled_job_that_never_ran_has_no_attempts(database: Database) -> None:
    [job_id] = await add(database)
    await Inspection(database).cancel([job_id])
    assert await attempts(database, job_id) == []


async def test_a_dead_letter_leaves_the_view_when_it_is_retried(database: Database) -> None:
    job = await claim_one(database, max_attempts=1)
    await PostgresEngine(database).settle(job, RETRY)
    [letter] = await query(database, "SELECT * FROM docyard.dead_letters")
    assert (letter["job_id"], letter["kind"], letter["queue"], letter["attempts"]) == (
        job.id,
        "work",
        "default",
        1,
    )
    assert letter["finished_at"] is not None
    await Inspection(database).retry([job.id])
    assert await query(database, "SELECT * FROM docyard.dead_letters") == []


async def test_a_retryable_job_waits_after_an_attempt_and_is_not_yet_due(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).settle(job, RETRY)
    assert await state(database, job.id) == "retryable"
    [stats] = await query(database, "SELECT * FROM docyard.queue_stats")
    assert (stats["retryable"], stats["scheduled"], stats["available"]) == (1, 0, 0)
    await make_due(database)
    assert await state(database, job.id) == "available"


async def test_a_unique_key_is_shown_however_long_it_is_held(database: Database) -> None:
    await add(
        database,
        NewJob("work", unique_key="w"),
        NewJob("work", unique_key="d", unique_scope="until_done"),
        NewJob("work", unique_key="p", unique_for=timedelta(hours=1)),
        NewJob("work"),
    )
    found = await query(database, "SELECT unique_key FROM docyard.jobs ORDER BY id")
    assert sorted(row["unique_key"] or "" for row in found) == ["", "d", "p", "w"]


async def test_a_worker_tells_which_kinds_it_knows(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_workers (last_heartbeat, kinds) VALUES (now(), ARRAY['a', 'b'])",
    )
    [worker] = await query(database, "SELECT kinds FROM docyard.workers")
    assert worker["kinds"] == ["a", "b"]


async def test_every_waiting_job_counts_once_in_its_queue(database: Database) -> None:
    now = datetime.now(UTC)
    await add(
        database,
        NewJob("work", queue="a"),
        NewJob("work", queue="a", run_at=now - timedelta(minutes=5)),
        NewJob("work", queue="b", run_at=now + timedelta(hours=1)),
        NewJob("work", queue="c"),
    )
    [job] = await claim(database, queues=["c"])
    await PostgresEngine(database).settle(job, RETRY)
    found = await query(database, "SELECT * FROM docyard.queue_stats ORDER BY queue")
    states = ("scheduled", "available", "retryable", "running")
    counts = {row["queue"]: tuple(row[state] for state in states) for row in found}
    assert counts == {"a": (0, 2, 0, 0), "b": (1, 0, 0, 0), "c": (0, 0, 1, 0)}
    assert 300 <= found[0]["oldest_available_s"] < 400


async def test_jobs_with_a_partition_key_or_behind_a_lock_count_like_all_others(database: Database) -> None:
    now = datetime.now(UTC)
    await add(
        database,
        NewJob("work", partition_key="t"),
        NewJob("work", partition_key="t", run_at=now - timedelta(hours=1)),
        NewJob("work", partition_key="t", run_at=now + timedelta(hours=1)),
        NewJob("work", lock_key="l"),
        NewJob("work", lock_key="l"),
        NewJob("work", priority=5),
    )
    await query(database, "UPDATE docyard.procrastinate_jobs SET parked = true WHERE id = 5")
    [stats] = await query(database, "SELECT * FROM docyard.queue_stats")
    assert (stats["available"], stats["scheduled"]) == (5, 1)
    assert 3600 <= stats["oldest_available_s"] < 3700
