"""Minutes that have ended are counted once, and the views tell them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.queueing import add, claim, claim_one, query

from docyard_queue import NewJob, PostgresEngine
from docyard_queue.minutes import count_minutes
from docyard_queue.outcomes import Failure

if TYPE_CHECKING:
    from docyard_schema import Database

DEAD = Failure(code="exception", error_class="E", message="m", traceback="t", retry_in=None)


async def earlier(database: Database, minutes: float) -> None:
    """Let all that happened have happened so long before."""
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET created_at = created_at - make_interval(secs => 60 * %(by)s), "
        "started_at = started_at - make_interval(secs => 60 * %(by)s), "
        "finished_at = finished_at - make_interval(secs => 60 * %(by)s)".replace("%(by)s", str(minutes)),
    )


async def throughput(database: Database) -> list[tuple[str, str, int, int, int]]:
    rows = await query(
        database,
        "SELECT queue, kind, sum(enqueued) AS enqueued, sum(completed) AS completed, sum(failed) AS failed "
        "FROM docyard.throughput GROUP BY queue, kind ORDER BY queue, kind",
    )
    return [(row["queue"], row["kind"], row["enqueued"], row["completed"], row["failed"]) for row in rows]


async def test_what_happened_in_a_minute_is_told_by_queue_and_kind(database: Database) -> None:
    engine = PostgresEngine(database)
    await add(database, NewJob("work", queue="a"), NewJob("work", queue="a"), NewJob("other", queue="b"))
    first, second, third = await claim(database)
    await engine.complete([(first, None), (second, None)])
    await engine.settle(third, DEAD)
    await add(database, NewJob("other", queue="b"))
    await earlier(database, 3)
    assert await count_minutes(database)
    assert await throughput(database) == [("a", "work", 2, 2, 0), ("b", "other", 2, 0, 1)]


async def test_latency_is_the_wait_since_a_job_was_due_and_the_run_of_its_last_attempt(
    database: Database,
) -> None:
    jobs = [await claim_one(database) for _ in range(3)]
    await PostgresEngine(database).complete([(job, None) for job in jobs])
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs "
        "SET finished_at = date_trunc('minute', now()) - interval '5 minutes', "
        "started_at = date_trunc('minute', now()) - interval '5 minutes' - id * interval '1 second', "
        "created_at = date_trunc('minute', now()) - interval '5 minutes' - id * interval '3 seconds'",
    )
    assert await count_minutes(database)
    [told] = await query(database, "SELECT * FROM docyard.job_latency")
    assert (told["count"], told["queue"], told["kind"]) == (3, "default", "work")
    assert (told["wait_p50_ms"], told["run_p50_ms"]) == (4000, 2000)
    assert 2000 < told["run_p95_ms"] < told["run_p99_ms"] < 3000


async def test_a_minute_that_has_not_ended_is_not_counted(database: Database) -> None:
    await count_minutes(database)
    await add(database)
    await count_minutes(database)
    assert await throughput(database) == []


async def test_a_minute_is_counted_once_by_however_many(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).complete([(job, None)])
    await earlier(database, 3)
    counted = await asyncio.gather(*(count_minutes(database) for _ in range(5)))
    assert counted.count(True) == 1
    assert await throughput(database) == [("default", "work", 1, 1, 0)]


async def test_jobs_enqueued_after_a_count_are_in_the_next_one(database: Database) -> None:
    await add(database)
    await earlier(database, 5)
    assert await count_minutes(database)
    # As if it had been counted three minutes ago.
    await query(database, "UPDATE docyard.job_minutes_progress SET until = until - interval '3 minutes'")
    await add(database)
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET created_at = created_at - interval '2 minutes' "
        "WHERE id = (SELECT max(id) FROM docyard.procrastinate_jobs)",
    )
    assert await count_minutes(database)
    assert await throughput(database) == [("default", "work", 2, 0, 0)]


async def test_minutes_of_more_than_a_day_ago_are_forgotten(database: Database) -> None:
    await query(
        database,
        "INSERT INTO docyard.job_minutes (minute, queue, kind, enqueued, completed, failed) "
        "VALUES (now() - interval '25 hours', 'a', 'work', 1, 1, 1)",
    )
    assert await count_minutes(database)
    assert await throughput(database) == []


async def test_completed_24h_is_the_same_before_and_after_the_count(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).complete([(job, None)])
    await earlier(database, 3)
    for _ in range(2):
        [stats] = await query(database, "SELECT queue, completed_24h FROM docyard.queue_stats")
        assert (stats["queue"], stats["completed_24h"]) == ("default", 1)
        await count_minutes(database)
