"""A unique key is held while its job waits, until it is done, or for a period: one row, however many ask."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.queueing import add, claim, make_due, query, row, state, states, until_somebody_waits_for_a_lock

from docyard_queue import (
    Cancel,
    Done,
    Inspection,
    NewJob,
    PostgresEngine,
    enqueue,
    enqueue_async,
    enqueue_many,
)
from docyard_queue.outcomes import Failure

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database

SCOPES: list[dict[str, Any]] = [{}, {"unique_scope": "until_done"}, {"unique_for": timedelta(hours=1)}]
IDS = ["waiting", "until done", "a period"]


def until_done(key: str = "k", **options: Any) -> NewJob:
    return NewJob("work", unique_key=key, unique_scope="until_done", **options)


def for_an_hour(key: str = "k", **options: Any) -> NewJob:
    return NewJob("work", unique_key=key, unique_for=timedelta(hours=1), **options)


def failure(*, retry: bool) -> Failure:
    return Failure(
        retry_in=timedelta(0) if retry else None, code="boom", error_class="Boom", message="", traceback=""
    )


async def later(database: Database, job: NewJob, hours: float) -> int:
    """Enqueue as if it were so many hours later."""
    async with database.transaction() as connection:
        await connection.execute(
            "SELECT set_config('docyard.now', (now() + make_interval(hours => 1) * %s)::text, true)", [hours]
        )
        return await enqueue_async(connection, job)


async def held_keys(database: Database) -> list[tuple[str, int]]:
    found = await query(database, "SELECT key, job_id FROM docyard.unique_keys ORDER BY key")
    return [(entry["key"], entry["job_id"]) for entry in found]


async def test_a_key_until_done_is_held_by_a_job_that_waits_runs_or_is_retried(database: Database) -> None:
    engine = PostgresEngine(database)
    [first] = await add(database, until_done(run_at=None))
    assert await add(database, until_done()) == [first]
    [job] = await claim(database)
    assert await add(database, until_done()) == [first]
    assert await engine.settle(job, failure(retry=True))
    assert await add(database, until_done()) == [first]
    assert len(await states(database)) == 1


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [(Done(None), "completed"), (failure(retry=False), "dead"), (Cancel("no"), "cancelled")],
    ids=["completed", "dead", "cancelled"],
)
async def test_a_key_until_done_is_free_when_its_holder_has_ended(
    database: Database, outcome: Any, ended: str
) -> None:
    [first] = await add(database, until_done())
    [job] = await claim(database)
    assert await PostgresEngine(database).settle(job, outcome)
    assert await state(database, first) == ended
    [second] = await add(database, until_done())
    assert second != first
    assert await add(database, until_done()) == [second]
    assert await held_keys(database) == [("k", second)]


async def test_a_key_until_done_is_free_when_its_waiting_holder_was_cancelled(database: Database) -> None:
    [first] = await add(database, until_done())
    await Inspection(database).cancel([first])
    [second] = await add(database, until_done())
    assert second != first


async def test_ending_a_job_writes_nothing_to_the_keys(database: Database) -> None:
    await add(database, until_done(), until_done("other"))
    before = await query(database, "SELECT xmin::text, * FROM docyard.unique_keys ORDER BY key")
    jobs = await claim(database)
    assert await PostgresEngine(database).complete([(job, None) for job in jobs]) == []
    assert await query(database, "SELECT xmin::text, * FROM docyard.unique_keys ORDER BY key") == before


async def test_a_dead_holder_that_is_retried_holds_its_key_again(database: Database) -> None:
    [first] = await add(database, until_done())
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, failure(retry=False))
    assert await Inspection(database).retry([first]) == [first]
    assert await add(database, until_done()) == [first]


async def test_a_dead_holder_that_is_retried_after_its_key_was_taken_runs_without_it(
    database: Database,
) -> None:
    [first] = await add(database, until_done())
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, failure(retry=False))
    [second] = await add(database, until_done())
    assert await Inspection(database).retry([first]) == [first]
    assert await states(database) == ["available", "available"]
    assert await add(database, until_done()) == [second]


async def test_a_period_is_counted_from_the_holders_enqueue_whatever_becomes_of_it(
    database: Database,
) -> None:
    [first] = await add(database, for_an_hour())
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, Done(None))
    assert await add(database, for_an_hour()) == [first]
    assert await later(database, for_an_hour(), 0.9) == first
    second = await later(database, for_an_hour(), 1.1)
    assert second != first
    assert await later(database, for_an_hour(), 2.0) == second
    assert await later(database, for_an_hour(), 2.2) not in (first, second)


async def test_a_period_that_is_over_frees_the_key_of_a_job_that_still_waits(database: Database) -> None:
    [first] = await add(database, for_an_hour())
    second = await later(database, for_an_hour(), 2)
    assert second != first
    assert await states(database) == ["available", "available"]
    jobs = await claim(database)
    assert {job.id for job in jobs} == {first, second}


async def test_the_holder_says_how_long_and_not_who_asks(database: Database) -> None:
    [first] = await add(database, for_an_hour())
    assert await add(database, until_done()) == [first]
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, Done(None))
    assert await add(database, until_done()) == [first], "its hour is not over"
    second = await later(database, until_done(), 2)
    assert second != first
    assert await later(database, for_an_hour(), 100) == second, "it has not ended"


async def test_a_key_while_waiting_is_another_than_the_same_word_until_done(database: Database) -> None:
    ids = await add(database, NewJob("work", unique_key="k"), until_done())
    assert len(set(ids)) == 2
    assert await add(database, NewJob("work", unique_key="k"), until_done()) == ids


@pytest.mark.fault(19)
async def test_a_retry_that_meets_a_waiting_sibling_gives_up_its_key(database: Database) -> None:
    [first] = await add(database, NewJob("work", unique_key="k"))
    [job] = await claim(database)
    [sibling] = await add(database, NewJob("work", unique_key="k"))
    assert await PostgresEngine(database).settle(job, failure(retry=True))
    assert (await row(database, first))["queueing_lock"] is None
    assert await add(database, NewJob("work", unique_key="k")) == [sibling]
    await make_due(database)
    assert {job.id for job in await claim(database)} == {first, sibling}


async def test_deleted_jobs_leave_no_keys(database: Database) -> None:
    [first, _] = await add(database, until_done(), for_an_hour("other"))
    await query(database, "DELETE FROM docyard.procrastinate_jobs")
    assert await held_keys(database) == []
    [second] = await add(database, until_done())
    assert second > first


async def test_the_deletion_of_jobs_finds_their_keys_by_an_index(database: Database) -> None:
    await add(database, *[until_done(f"key {number}") for number in range(2000)])
    await query(database, "ANALYZE docyard.unique_keys")
    found = await query(database, "EXPLAIN DELETE FROM docyard.unique_keys WHERE job_id = 7")
    assert "unique_keys_job_id_key" in str(found)


@pytest.mark.fault(20)
async def test_a_hundred_clients_with_one_key_make_one_row(url: str) -> None:
    # One scope after the other: so many connections at once are enough.
    for number, scope in enumerate(SCOPES, start=1):
        ready, ids = threading.Barrier(100), []

        def client(job: NewJob, ready: threading.Barrier = ready, ids: list[int] = ids) -> None:
            with psycopg.connect(url) as connection:
                ready.wait(60)
                ids.append(enqueue(connection, job))

        # The last two share their keys, so the third asks for another.
        job = NewJob("work", unique_key=f"only {number}", **scope)
        threads = [threading.Thread(target=client, args=[job]) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(ids) == 100
        assert len(set(ids)) == 1
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM docyard.jobs").fetchone() == (number,)


@pytest.mark.fault(20)
async def test_many_clients_replace_an_ended_holder_once(database: Database, url: str) -> None:
    [first] = await add(database, until_done())
    [job] = await claim(database)
    await PostgresEngine(database).settle(job, Done(None))

    async def client() -> int:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await enqueue_async(connection, until_done())

    ids = set(await asyncio.gather(*[client() for _ in range(40)]))
    assert len(ids) == 1
    assert first not in ids
    assert len(await states(database)) == 2


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("scope", SCOPES, ids=IDS)
async def test_who_asks_during_the_holders_transaction_waits_for_its_end(
    url: str, scope: dict[str, Any], commits: bool
) -> None:
    job = NewJob("work", unique_key="k", **scope)
    async with (
        await psycopg.AsyncConnection.connect(url) as first,
        await psycopg.AsyncConnection.connect(url) as second,
    ):
        holder = await enqueue_async(first, job)
        asking = asyncio.create_task(enqueue_async(second, job))
        await until_somebody_waits_for_a_lock(url)
        await (first.commit() if commits else first.rollback())
        assert (await asking == holder) is commits


async def test_who_finds_a_holder_waits_for_nobody(url: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(url) as first,
        await psycopg.AsyncConnection.connect(url) as second,
    ):
        holder = await enqueue_async(first, until_done())
        await first.commit()
        assert await enqueue_async(first, until_done()) == holder
        # The first one's transaction is open.
        async with asyncio.timeout(10):
            assert await enqueue_async(second, until_done()) == holder


@pytest.mark.parametrize("scope", SCOPES, ids=IDS)
@pytest.mark.fault(13)
async def test_bulks_with_the_same_keys_in_other_orders_do_not_deadlock(
    url: str, scope: dict[str, Any]
) -> None:
    keys = [f"{letter}{number}" for letter in "Zaäz_😀" for number in range(200)]

    async def caller(order: list[str]) -> list[int]:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await enqueue_many(connection, [NewJob("work", unique_key=key, **scope) for key in order])

    forwards, backwards = await asyncio.gather(caller(keys), caller(keys[::-1]))
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(keys)


async def test_one_bulk_may_hold_a_key_twice(database: Database) -> None:
    jobs = [until_done("b"), NewJob("work"), until_done("a"), until_done("b"), NewJob("work", unique_key="b")]
    ids = await add(database, *jobs)
    assert ids[0] == ids[3]
    assert len(set(ids)) == 4


async def test_only_a_job_with_a_key_needs_the_function(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET track_functions = 'all'")
        for job, expected in ((NewJob("work"), 0), (until_done(), 1), (NewJob("work", unique_key="k"), 2)):
            enqueue(connection, job)
            connection.execute("SELECT pg_stat_force_next_flush()")
            called = connection.execute(
                "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_user_functions "
                "WHERE funcname = 'insert_job'"
            ).fetchone()
            assert called == (expected,)


async def test_a_claimed_job_of_a_key_runs_like_any_other(database: Database) -> None:
    [made] = await add(database, until_done(lock_key="l", priority=4))
    [job] = await claim(database)
    found: Job = job
    assert (found.id, found.lock_key, found.priority, found.attempt) == (made, "l", 4, 1)
