"""assert_enqueued and refute_enqueued: what they find, and what they say when they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import ANY

import psycopg
import pytest
from pydantic import BaseModel

from docyard.testing import (
    assert_enqueued,
    assert_enqueued_async,
    drain,
    enqueued,
    enqueued_async,
    refute_enqueued,
    refute_enqueued_async,
)
from docyard_queue import NewJob, PostgresEngine, Registry, enqueue, enqueue_async
from docyard_schema import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database

TOMORROW = datetime.now(UTC) + timedelta(days=1)


class Order(BaseModel):
    order: int
    lines: list[str] = []


def test_a_connection_sees_the_jobs_of_its_open_transaction(url: str) -> None:
    with psycopg.connect(url) as connection:
        enqueue(connection, NewJob("charge", {"order": 7}))
        assert_enqueued(connection, "charge", {"order": 7})
        refute_enqueued(url, "charge")
        connection.rollback()
        refute_enqueued(connection, "charge")


async def test_an_asynchronous_connection_does_too(url: str, database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await enqueue_async(connection, NewJob("charge", {"order": 7}))
        [job] = await assert_enqueued_async(connection, "charge", {"order": 7}, queue="default")
        assert [found.id for found in await enqueued_async(connection)] == [job.id]
        await refute_enqueued_async(connection, "receipt")
        refute_enqueued(database, "charge")
        with pytest.raises(AssertionError, match="expected no job: a 'charge' job, waiting\nfound 1:"):
            await refute_enqueued_async(connection, "charge")


async def test_a_database_is_asked_without_await(database: Database) -> None:
    await PostgresEngine(database).enqueue([NewJob("charge", {"order": 7})])
    [job] = assert_enqueued(database, "charge")
    assert (job.payload, job.state, job.attempts) == ({"order": 7}, "available", 0)
    assert [found.kind for found in enqueued(database)] == ["charge"]
    assert enqueued(database, "receipt") == []


def test_the_payload_is_what_the_job_has_at_least(url: str) -> None:
    with psycopg.connect(url) as connection:
        enqueue(
            connection, NewJob("charge", {"order": 7, "to": {"name": "Ann", "city": "Bern"}, "n": [1, 2]})
        )
        for fits in ({}, {"order": 7}, {"to": {"city": "Bern"}}, {"n": [1, 2]}, {"order": ANY}):
            assert_enqueued(connection, "charge", fits)
        for differs in ({"order": 8}, {"to": {"city": "Basel"}}, {"n": [1]}, {"colour": ANY}):
            refute_enqueued(connection, "charge", differs)


def test_a_model_is_the_payload_that_it_is_sent_as(url: str) -> None:
    with psycopg.connect(url) as connection:
        enqueue(connection, NewJob("charge", {"order": 7, "lines": []}))
        assert_enqueued(connection, "charge", Order(order=7))
        refute_enqueued(connection, "charge", Order(order=7, lines=["a"]))


def test_columns_are_compared(url: str) -> None:
    job = NewJob(
        "charge",
        queue="billing",
        priority=3,
        lock_key="l",
        unique_key="k",
        partition_key="p",
        run_at=TOMORROW,
    )
    with psycopg.connect(url) as connection:
        enqueue(connection, job)
        assert_enqueued(connection, "charge", queue="billing", priority=3, lock_key="l", unique_key="k")
        assert_enqueued(connection, "charge", run_at=TOMORROW, partition_key="p")
        refute_enqueued(connection, "charge", run_at=timedelta(days=2))
        for columns in ({"queue": "other"}, {"priority": 0}, {"lock_key": "m"}, {"partition_key": "q"}):
            refute_enqueued(connection, "charge", **columns)
        refute_enqueued(connection, "charge", run_at=TOMORROW + timedelta(minutes=1))


def test_a_span_is_counted_from_the_jobs_enqueue(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT docyard.enqueue('charge', run_at => now() + interval '1 day')")
        assert_enqueued(connection, "charge", run_at=timedelta(days=1), state="scheduled")
        refute_enqueued(connection, "charge", run_at=timedelta(hours=23))


@pytest.mark.parametrize("options", [{"unique_scope": "until_done"}, {"unique_for": timedelta(hours=1)}])
def test_a_unique_key_is_found_in_every_scope(url: str, options: dict[str, object]) -> None:
    with psycopg.connect(url) as connection:
        enqueue(connection, NewJob("charge", unique_key="k", **options))  # type: ignore[arg-type]
        assert_enqueued(connection, "charge", unique_key="k")


def test_the_count_is_exact(url: str) -> None:
    with psycopg.connect(url) as connection:
        for order in (7, 7, 8):
            enqueue(connection, NewJob("charge", {"order": order}))
        assert len(assert_enqueued(connection, "charge", {"order": 7}, count=2)) == 2
        assert assert_enqueued(connection, "charge", {"order": 9}, count=0) == []
        with pytest.raises(
            AssertionError, match=r"exactly 3 of: a 'charge' job with \{'order': 7\}.*\nfound 2:"
        ):
            assert_enqueued(connection, "charge", {"order": 7}, count=3)


def test_a_failure_shows_what_was_expected_and_the_nearest_jobs(url: str) -> None:
    with psycopg.connect(url) as connection:
        enqueue(connection, NewJob("receipt", {"order": 7}))
        enqueue(connection, NewJob("charge", {"order": 8}, queue="billing"))
        enqueue(connection, NewJob("charge", {}, run_at=TOMORROW))
        with pytest.raises(AssertionError) as raised:
            assert_enqueued(connection, "charge", {"order": 7}, queue="billing", run_at=timedelta(0))
    lines = str(raised.value).splitlines()
    assert lines[0] == (
        "expected a 'charge' job with {'order': 7} in its payload and queue 'billing', "
        "run_at 0:00:00 after its enqueue, waiting"
    )
    assert lines[1:3] == ["found none among: 1 'receipt', 2 'charge'", "the nearest:"]
    assert lines[3].endswith("'charge' in 'billing', available, payload {'order': 8}")
    assert lines[4] == "    payload['order'] is 8, not 7"
    assert "scheduled" in lines[5]
    assert lines[6:8] == ["    payload has no 'order'", "    queue is 'default'"]
    assert lines[8].startswith("    run_at is ")
    assert lines[8].endswith(" later")
    assert lines[-2:] == ["    kind is 'receipt'", "    queue is 'default'"]


async def test_a_failure_says_that_the_job_has_run_already(database: Database) -> None:
    registry = Registry()
    registry.handler("charge")(lambda attempt, payload: None)
    await PostgresEngine(database).enqueue([registry.job("charge")])
    assert (await drain(database, registry)).done == 1
    refute_enqueued(database, "charge")
    assert_enqueued(database, "charge", state="completed")
    assert_enqueued(database, "charge", state="any")
    with pytest.raises(AssertionError, match=r"these fit, but for their state:\n.* completed,"):
        assert_enqueued(database, "charge")


def test_a_failure_in_an_empty_queue_asks_for_the_commit(url: str) -> None:
    with pytest.raises(AssertionError, match=r"found no job at all; was the transaction .* committed"):
        assert_enqueued(url, "charge")


async def test_an_asynchronous_connection_needs_the_asynchronous_twin(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        with pytest.raises(InvalidInput, match="assert_enqueued_async"):
            assert_enqueued(connection, "charge")  # type: ignore[arg-type]
