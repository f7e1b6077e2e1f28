"""A job exists if and only if its enqueuer's transaction commits."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from conftest import opened
from psycopg.rows import dict_row
from support.queueing import add, claim, query, row, state, states

from docyard_queue import NewJob, enqueue, enqueue_async, enqueue_many
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database


def test_a_sync_enqueue_is_part_of_the_callers_transaction(url: str) -> None:
    with psycopg.connect(url) as connection:
        enqueue(connection, NewJob("work"))
        connection.rollback()
        kept = enqueue(connection, NewJob("work"))
        connection.commit()
        assert connection.execute("SELECT id FROM docyard.jobs").fetchall() == [(kept,)]


async def test_an_async_enqueue_is_part_of_the_callers_transaction(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with database.transaction() as connection:
            await enqueue_async(connection, NewJob("work"))
            await enqueue_many(connection, [NewJob("work"), NewJob("work", unique_key="k")])
            raise ZeroDivisionError
    assert await states(database) == []
    async with database.transaction() as connection:
        await enqueue_async(connection, NewJob("work"))
    assert await states(database) == ["available"]


async def test_everything_asked_for_is_stored(database: Database) -> None:
    batch, at = uuid4(), datetime(2031, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
    job = NewJob(
        "work", {"ü": [1, None, {"deep": "\\u0000 is text"}]}, queue="büro", priority=-3, run_at=at,
        max_attempts=7, timeout=timedelta(milliseconds=1500), lock_key="l", batch_id=batch,
    )  # fmt: skip
    keyed = NewJob(**{name: getattr(job, name) for name in job.__slots__} | {"unique_key": "u"})
    for job_id, wanted in zip(await add(database, job, keyed), (job, keyed), strict=True):
        stored = await row(database, job_id)
        assert stored["args"] == wanted.payload
        assert (stored["queue_name"], stored["priority"], stored["scheduled_at"]) == ("büro", -3, at)
        assert (stored["max_attempts"], stored["timeout_seconds"]) == (7, 1.5)
        assert (stored["lock"], stored["queueing_lock"]) == ("l", wanted.unique_key)
        assert stored["batch_id"] == batch
        assert await state(database, job_id) == "scheduled"


async def test_ids_come_back_in_the_order_given(database: Database) -> None:
    wanted = [NewJob("work", {"n": n}, unique_key=f"k{-n}" if n % 3 == 0 else None) for n in range(30)]
    ids = await add(database, *wanted)
    stored = {
        found["id"]: found["args"]["n"]
        for found in await query(database, "SELECT * FROM docyard.procrastinate_jobs")
    }
    assert [stored[job_id] for job_id in ids] == list(range(30))


async def test_ten_thousand_jobs_go_in_one_call(database: Database) -> None:
    ids = await add(database, *[NewJob("work", {"n": n}) for n in range(10_000)])
    assert ids == sorted(set(ids))
    [found] = await query(
        database,
        "SELECT count(*), sum((args->>'n')::int) FROM docyard.procrastinate_jobs WHERE id = ANY(%s)",
        ids,
    )
    assert (found["count"], found["sum"]) == (10_000, 49_995_000)


async def test_no_jobs_are_no_ids(database: Database) -> None:
    async with database.transaction() as connection:
        assert await enqueue_many(connection, []) == []


async def test_one_bad_job_among_many_keeps_all_out_even_in_autocommit(database: Database) -> None:
    async with database.connection() as connection:
        with pytest.raises(InvalidInput, match="not JSON"):
            await enqueue_many(connection, [NewJob("work")] * 2000 + [NewJob("work", {"x": object()})])
    assert await states(database) == []


async def test_large_payloads_travel_in_several_statements(database: Database) -> None:
    jobs = [NewJob("work", {"n": n, "text": "x" * 900_000}) for n in range(30)]
    ids = await add(database, *jobs)
    found = await query(
        database, "SELECT id, (args->>'n')::int AS n FROM docyard.procrastinate_jobs ORDER BY id"
    )
    assert [(entry["id"], entry["n"]) for entry in found] == list(zip(ids, range(30), strict=True))


async def test_a_unique_key_gives_the_waiting_jobs_id(database: Database) -> None:
    [first] = await add(database, NewJob("work", {"n": 1}, unique_key="k"))
    again = await add(database, NewJob("work", {"n": 2}, unique_key="k"), NewJob("work", unique_key="k"))
    assert again == [first, first]
    assert (await row(database, first))["args"] == {"n": 1}
    await claim(database)
    [second] = await add(database, NewJob("work", unique_key="k"))
    assert second != first, "a running job does not hold its unique key"


async def test_fifty_clients_with_one_unique_key_make_one_row(url: str) -> None:
    ready, ids = threading.Barrier(50), []

    def client() -> None:
        with psycopg.connect(url) as connection:
            ready.wait(20)
            ids.append(enqueue(connection, NewJob("work", unique_key="only")))

    threads = [threading.Thread(target=client) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(ids) == 50
    assert len(set(ids)) == 1
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM docyard.jobs").fetchone() == (1,)


async def test_two_callers_with_the_same_keys_in_other_orders_do_not_deadlock(url: str) -> None:
    keys = [f"key {n}" for n in range(40)]

    async def caller(order: list[str]) -> list[int]:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await enqueue_many(connection, [NewJob("work", unique_key=key) for key in order])

    forwards, backwards = await asyncio.gather(caller(keys), caller(keys[::-1]))
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("path", ["''", "pg_catalog", "hostile, public"])
async def test_it_works_under_a_hostile_search_path(url: str, path: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        # A table of the same name, an operator and a function that would be taken first.
        await connection.execute(
            "CREATE SCHEMA hostile; CREATE TABLE hostile.procrastinate_jobs (id int); "
            "CREATE FUNCTION hostile.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT 1/0'"
        )
        await connection.execute(f"SET search_path = {path}".encode())
        await enqueue_async(connection, NewJob("work", unique_key="k"))
        await enqueue_many(connection, [NewJob("work"), NewJob("work")])
    with psycopg.connect(url) as sync:
        sync.execute(f"SET search_path = {path}".encode())
        enqueue(sync, NewJob("work"))
    async with opened(url) as database:
        assert await states(database) == ["available"] * 4


async def test_it_works_in_a_schema_of_another_name(empty_url: str) -> None:
    async with opened(empty_url, database_schema="order", auto_migrate=True) as database:
        async with database.transaction() as connection:
            await enqueue_async(connection, NewJob("work", unique_key="k"), schema="order")
            await enqueue_many(connection, [NewJob("work")], schema="order")
        [first, second] = await claim(database)
        assert (first.id, second.id) == (1, 2)
    with psycopg.connect(empty_url) as sync:
        assert enqueue(sync, NewJob("work"), schema="order") == 3


async def test_the_callers_row_factory_and_cursors_do_not_matter(url: str) -> None:
    with psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.RawCursor) as sync:
        assert enqueue(sync, NewJob("work")) == 1
    async with await psycopg.AsyncConnection.connect(
        url, row_factory=dict_row, cursor_factory=psycopg.AsyncRawCursor
    ) as connection:
        assert await enqueue_async(connection, NewJob("work", unique_key="k")) == 2
        assert await enqueue_many(connection, [NewJob("work"), NewJob("work", unique_key="k")]) == [3, 2]
