"""Tests of billing.py, on a throwaway Postgres of their own.

    pytest examples/test_billing.py

shows what an application's tests look like; docs/testing.md has the rest.
"""

import psycopg
import pytest
from billing import TABLE, registry

from docyard.testing import assert_enqueued, crash_at, drain, perform
from docyard_queue import NewJob, enqueue

pytest_plugins = ["docyard.testing.fixtures"]


@pytest.fixture(autouse=True)
def orders(docyard_url):
    """A database with the table, in which order 7 was placed."""
    with psycopg.connect(docyard_url) as connection:
        connection.execute(TABLE)
        enqueue(connection, NewJob("charge", {"order_id": 7, "cents": 900}, queue="billing"))


def charges(url):
    """What was charged, and for which order."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT order_id, cents FROM charges").fetchall()


@pytest.mark.asyncio
async def test_an_order_is_charged_and_a_receipt_printed(docyard_database, docyard_url):
    drained = await drain(docyard_database, registry)
    assert drained.require_no_errors().done == 2
    assert charges(docyard_url) == [(7, 900)]


@pytest.mark.asyncio
async def test_nothing_is_charged_for_nothing(docyard_database):
    done = await perform(docyard_database, registry, "charge", {"order_id": 8, "cents": 0})
    assert done.dead
    assert "nothing to charge" in done.message


@pytest.mark.asyncio
@pytest.mark.parametrize("point", ["in_handler", "in_commit", "after_commit"])
async def test_a_worker_that_is_killed_charges_nobody_twice(docyard_database, docyard_url, point):
    drained = await drain(docyard_database, registry, crash=crash_at(point, "charge"))
    assert drained.crashed == 1
    assert charges(docyard_url) == [(7, 900)]
    assert_enqueued(docyard_url, "receipt", {"order_id": 7}, count=1, state="completed")
