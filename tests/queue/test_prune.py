"""Jobs that ended long ago are deleted, and no others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import add, claim, claim_one, query, states, until_somebody_waits_for_a_lock

from docyard_queue import Cancel, NewJob, PostgresEngine, enqueue_many
from docyard_queue.outcomes import Failure
from docyard_queue.prune import prune
from docyard_queue.selection import Change, Selection, change_selected
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database

NOW = timedelta(0)
WEEK = timedelta(days=7)
TOMORROW = datetime.now(UTC) + timedelta(days=1)
DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)
BACKOFF = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=timedelta(hours=1))
ENDED = ("completed", "cancelled", "dead")


async def one_of_each(database: Database) -> None:
    engine = PostgresEngine(database)
    done, _running, died, unwanted, again = [await claim_one(database) for _ in range(5)]
    await engine.complete([(done, None)])
    await engine.settle(died, DEATH)
    await engine.settle(unwanted, Cancel("no"))
    await engine.settle(again, BACKOFF)
    await add(database, NewJob("work", run_at=TOMORROW), NewJob("work"))


async def completed(database: Database, count: int) -> None:
    await add(database, *[NewJob("work")] * count)
    await PostgresEngine(database).complete([(job, None) for job in await claim(database, count)])


async def end_earlier(database: Database, age: timedelta) -> None:
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET finished_at = finished_at - %s, created_at = created_at - %s",
        age, age,
    )  # fmt: skip


async def test_only_ended_jobs_of_the_age_go(database: Database) -> None:
    await one_of_each(database)
    await end_earlier(database, timedelta(days=8))
    await completed(database, 1)
    deleted = await prune(database, older_than=WEEK, states=ENDED)
    assert deleted == {"completed": 1, "cancelled": 1, "dead": 1}
    # What has not ended stays, however old it is.
    assert sorted(await states(database)) == ["available", "completed", "retryable", "running", "scheduled"]


async def test_dead_letters_go_only_when_named(database: Database) -> None:
    await one_of_each(database)
    assert await prune(database, older_than=NOW) == {"completed": 1, "cancelled": 1}
    assert "dead" in await states(database)
    assert await prune(database, older_than=NOW, states=["dead"]) == {"dead": 1}


async def test_attempts_and_procrastinates_own_rows_go_with_their_job(database: Database) -> None:
    await one_of_each(database)
    await query(
        database,
        "INSERT INTO docyard.procrastinate_events (job_id, type) "
        "SELECT id, 'deferred' FROM docyard.procrastinate_jobs",
    )
    await query(
        database,
        "INSERT INTO docyard.procrastinate_periodic_defers (task_name, defer_timestamp, job_id) "
        "SELECT 'work', id, id FROM docyard.procrastinate_jobs",
    )
    await prune(database, older_than=NOW, states=ENDED)
    [told] = await query(
        database,
        "SELECT (SELECT array_agg(DISTINCT outcome) FROM docyard.job_attempts) AS outcomes, "
        "(SELECT count(*) FROM docyard.procrastinate_events) AS events, "
        "(SELECT count(*) FROM docyard.procrastinate_periodic_defers) AS defers, "
        "(SELECT count(job_id) FROM docyard.procrastinate_periodic_defers) AS linked, "
        "(SELECT count(*) FROM docyard.procrastinate_jobs) AS jobs",
    )
    # The retryable job's failure stays; a schedule's tick stays too, or it would fire once more.
    assert told == {"outcomes": ["failed"], "events": 4, "defers": 7, "linked": 4, "jobs": 4}


async def test_batches_go_on_until_the_limit_the_oldest_first(database: Database) -> None:
    await completed(database, 10)
    await query(
        database, "UPDATE docyard.procrastinate_jobs SET finished_at = now() - (100 - id) * interval '1 min'"
    )
    assert await prune(database, older_than=NOW, batch_size=3, limit=7) == {"completed": 7, "cancelled": 0}
    left = await query(database, "SELECT id FROM docyard.procrastinate_jobs ORDER BY id")
    assert [found["id"] for found in left] == [8, 9, 10]
    assert (await prune(database, older_than=NOW, batch_size=1))["completed"] == 3


async def test_jobs_that_ended_in_one_moment_all_go(database: Database) -> None:
    await completed(database, 10)
    await query(database, "UPDATE docyard.procrastinate_jobs SET finished_at = now() - interval '1 min'")
    assert (await prune(database, older_than=NOW, batch_size=3))["completed"] == 10


async def test_a_limit_counts_over_all_states(database: Database) -> None:
    await one_of_each(database)
    assert await prune(database, older_than=NOW, states=ENDED, limit=2) == {
        "completed": 1, "cancelled": 1, "dead": 0,
    }  # fmt: skip


async def test_a_job_without_a_time_of_its_end_goes_by_its_enqueueing(database: Database) -> None:
    # So procrastinate's own cancel left them before schema step 14.
    await add(database)
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'cancelled'")
    assert await prune(database, older_than=WEEK, states=["cancelled"]) == {"cancelled": 0}
    await end_earlier(database, timedelta(days=8))
    assert await prune(database, older_than=WEEK, states=["cancelled"]) == {"cancelled": 1}


@pytest.mark.fault(13)
async def test_a_job_that_somebody_has_locked_is_passed_over(database: Database) -> None:
    await completed(database, 3)
    async with database.transaction() as connection:
        await connection.execute(
            database.sql("SELECT FROM docyard.procrastinate_jobs WHERE id = 2 FOR UPDATE")
        )
        async with asyncio.timeout(5):
            assert (await prune(database, older_than=NOW))["completed"] == 2
    assert (await prune(database, older_than=NOW))["completed"] == 1


async def test_a_job_whose_unique_key_is_being_taken_over_is_passed_over(database: Database) -> None:
    for number in range(4):
        held = await claim_one(database, unique_key=f"k{number}", unique_scope="until_done")
        await PostgresEngine(database).complete([(held, None)])
    async with database.transaction() as connection:
        await enqueue_many(connection, [NewJob("work", unique_key="k1", unique_scope="until_done")])
        async with asyncio.timeout(5):
            # Also when it fills a whole batch, and when it is the only one left.
            for _ in range(2):
                await prune(database, older_than=NOW, batch_size=1)
        left = await query(database, "SELECT id FROM docyard.procrastinate_jobs ORDER BY id")
        assert [job["id"] for job in left] == [2]
    assert await prune(database, older_than=NOW) == {"completed": 1, "cancelled": 0}
    [key] = await query(database, "SELECT key, job_id FROM docyard.unique_keys")
    assert (key["key"], key["job_id"]) == ("k1", 5)


async def test_prune_and_bulks_that_take_keys_over_never_end_each_other(database: Database) -> None:
    jobs = [NewJob("work", unique_key=f"k{number}", unique_scope="until_done") for number in range(100)]

    async def produce_and_complete() -> None:
        for _ in range(10):
            async with database.transaction() as connection:
                await enqueue_many(connection, jobs)
            # In another order than that of the keys.
            await query(
                database,
                "UPDATE docyard.procrastinate_jobs SET status = 'succeeded', "
                "finished_at = now() - id * interval '1 ms' WHERE status = 'todo'",
            )

    async def delete() -> None:
        while not produced.done():
            await prune(database, older_than=NOW, batch_size=37)

    async with asyncio.timeout(60):
        produced = asyncio.ensure_future(produce_and_complete())
        await asyncio.gather(produced, delete(), delete())
    await prune(database, older_than=NOW)
    assert await states(database) == []
    assert await query(database, "SELECT key FROM docyard.unique_keys") == []


@pytest.mark.fault(13)
async def test_a_prune_that_met_a_deadlock_is_tried_again(database: Database, url: str) -> None:
    await completed(database, 2)
    await query(
        database,
        "INSERT INTO docyard.procrastinate_periodic_defers (task_name, defer_timestamp, job_id) "
        "SELECT 'work', id, id FROM docyard.procrastinate_jobs",
    )
    async with database.transaction() as connection:
        # Somebody's own SQL holds what the prune needs, and then asks for what the prune holds.
        await connection.execute(b"SET LOCAL deadlock_timeout = '20s'")
        await connection.execute(
            database.sql("SELECT FROM docyard.procrastinate_periodic_defers WHERE job_id = 2 FOR UPDATE")
        )
        pruning = asyncio.create_task(prune(database, older_than=NOW))
        await until_somebody_waits_for_a_lock(url)
        await connection.execute(
            database.sql("SELECT FROM docyard.procrastinate_jobs WHERE id = 1 FOR UPDATE")
        )
    assert await pruning == {"completed": 2, "cancelled": 0}


@pytest.mark.fault(13)
async def test_two_prunes_and_retries_at_once_share_the_work(database: Database) -> None:
    engine = PostgresEngine(database)
    for job in [await claim_one(database) for _ in range(60)]:
        await engine.settle(job, DEATH)
    async with asyncio.timeout(30):
        one, two, retried = await asyncio.gather(
            prune(database, older_than=NOW, states=["dead"], batch_size=7),
            prune(database, older_than=NOW, states=["dead"], batch_size=7),
            change_selected(database, Change.RETRY, Selection(state="dead"), limit=20, batch_size=5),
        )
    assert one["dead"] + two["dead"] + len(retried) == 60
    assert await states(database) == ["available"] * len(retried)


@pytest.mark.parametrize(
    "wrong",
    [{"states": ["running"]}, {"states": ["failed"]}, {"older_than": timedelta(-1)}, {"batch_size": 0}],
    ids=str,
)
async def test_what_cannot_be_pruned_is_refused(database: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        await prune(database, **({"older_than": NOW} | wrong))  # type: ignore[arg-type]
