"""Line 13: bulk cancels, prunes, claims, retries and unique inserts of the same jobs at once."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from conftest import opened
from support.eventually import eventually
from support.queueing import add, query
from support.working import AT_ONCE, running

from docyard_queue import NewJob, Registry, cancel_batch, create_batch
from docyard_queue.prune import prune
from docyard_queue.selection import Change, Selection, change_selected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docyard_schema import Database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault(13),
    # A pipeline of psycopg's that is dropped when its connection was closed under it complains to nobody.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECONDS = 4


def flaky() -> Registry:
    registry, chance = Registry(), random.Random(13)

    @registry.handler("work", max_attempts=3, backoff=AT_ONCE)
    async def work(attempt: Any, payload: Any) -> None:
        await asyncio.sleep(chance.uniform(0, 0.01))
        if chance.random() < 0.2:
            raise ConnectionResetError
        if chance.random() < 0.5:
            async with attempt.commit() as connection:
                await attempt.enqueue(NewJob("work", unique_key="from a job"), connection=connection)

    return registry


def some_jobs(chance: random.Random) -> list[NewJob]:
    scopes: list[dict[str, Any]] = [
        {},
        {"unique_key": f"w{chance.randrange(5)}"},
        {"unique_key": f"d{chance.randrange(5)}", "unique_scope": "until_done"},
        {"unique_key": f"p{chance.randrange(5)}", "unique_for": timedelta(seconds=0.3)},
        {"lock_key": f"l{chance.randrange(3)}", "priority": chance.randrange(3)},
    ]
    return [NewJob("work", **chance.choice(scopes)) for _ in range(10)]


async def test_nobody_fails_and_no_job_is_left_between_two_states(url: str) -> None:
    chance = random.Random(131)
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(opened(url, pool_max_size=10)) for _ in range(3)]
        admin = databases[0]
        end = asyncio.get_running_loop().time() + SECONDS

        async def again_and_again(do: Callable[[Database], Awaitable[Any]]) -> int:
            times = 0
            while asyncio.get_running_loop().time() < end:
                await do(chance.choice(databases))
                await asyncio.sleep(chance.uniform(0, 0.02))
                times += 1
            return times

        async def a_batch_and_its_cancel(database: Database) -> None:
            async with database.transaction() as connection:
                batch = await create_batch(database, "doomed", NewJob("work"), connection=connection)
            await add(database, *[NewJob("work", batch_id=batch)] * 10)
            await cancel_batch(database, batch)

        work: list[Callable[[Database], Awaitable[Any]]] = [
            lambda database: add(database, *some_jobs(chance)),
            lambda database: add(database, *some_jobs(chance)),
            lambda database: change_selected(database, Change.CANCEL, Selection(kind="work"), batch_size=20),
            lambda database: change_selected(database, Change.RETRY, Selection(), batch_size=20),
            lambda database: prune(database, older_than=timedelta(0), batch_size=7),
            lambda database: prune(
                database, older_than=timedelta(0), states=["dead", "cancelled"], batch_size=7
            ),
            a_batch_and_its_cancel,
        ]
        async with (
            running(databases[1], flaky(), poll_seconds=0.1) as one,
            running(databases[2], flaky(), poll_seconds=0.1) as two,
        ):
            times = await asyncio.gather(*map(again_and_again, work))
            assert min(times) >= 3, times
            await eventually(lambda: none_left(admin), seconds=30)
            assert one.completed + two.completed > 50
        leftover = await query(
            admin, "SELECT id FROM docyard.jobs WHERE attempts > max_attempts OR state = 'running'"
        )
        assert leftover == []
        # Of each attempt one story at most.
        twice = await query(
            admin, "SELECT 1 FROM docyard.attempts GROUP BY job_id, lease HAVING count(*) > 1"
        )
        assert twice == []


async def none_left(database: Database) -> bool:
    return not await query(
        database, "SELECT 1 FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1"
    )


async def test_workers_try_again_where_transactions_are_serializable(url: str, database: Database) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    await query(database, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    jobs = [NewJob("work", lock_key=f"l{number % 5}" if number % 2 else None) for number in range(200)]
    await add(database, *jobs)
    registry = Registry()

    @registry.handler("work", max_attempts=20, backoff=AT_ONCE)
    async def work(attempt: Any, payload: Any) -> None:
        async with attempt.commit():
            pass

    async with AsyncExitStack() as stack:
        for _ in range(3):
            strict = await stack.enter_async_context(opened(url))
            await stack.enter_async_context(running(strict, registry, poll_seconds=0.1))
        await eventually(lambda: none_left(database), seconds=30)
    states = await query(database, "SELECT state, count(*) FROM docyard.jobs GROUP BY state")
    assert states == [{"state": "completed", "count": 200}]
