"""freeze() stops the clock of one Database and of nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from conftest import opened
from psycopg_pool import AsyncConnectionPool
from support.queueing import add, claim, query
from support.working import AT_ONCE, drain

from docyard.testing import assert_enqueued, enqueued, freeze
from docyard_queue import NewJob, Registry, enqueue
from docyard_schema import ConfigError, Database, InvalidInput

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def now(database: Database) -> datetime:
    [row] = await query(database, "SELECT docyard.clock() AS now")
    found: datetime = row["now"]
    return found


async def test_the_clock_stands_still_and_can_be_moved(database: Database) -> None:
    with freeze(database, NOW) as clock:
        assert await now(database) == await now(database) == clock.now == NOW
        assert clock.advance(HOUR) == NOW + HOUR
        assert await now(database) == NOW + HOUR
        clock.move_to(NOW - HOUR)
        assert await now(database) == NOW - HOUR
    assert abs(await now(database) - datetime.now(UTC)) < HOUR


async def test_without_a_time_it_stops_now(database: Database) -> None:
    with freeze(database) as clock:
        assert abs(clock.now - datetime.now(UTC)) < HOUR
        assert await now(database) == clock.now


async def test_every_connection_of_the_database_has_its_time(database: Database) -> None:
    with freeze(database, NOW):
        async with database.connection() as one, database.transaction() as two:
            for connection in (one, two):
                cursor = await connection.execute("SELECT docyard.clock()")
                assert await cursor.fetchone() == (NOW,)
        async with database.dedicated() as connection:
            cursor = await connection.execute("SELECT docyard.clock()")
            assert await cursor.fetchone() == (NOW,)
        with psycopg.connect(database.url) as sync:
            enqueue(sync, NewJob("work"))
        assert enqueued(database)[0].created_at == NOW


async def test_others_keep_the_real_time(database: Database, url: str) -> None:
    async with opened(url) as other:
        with freeze(database, NOW):
            assert await now(database) == NOW
            assert await now(other) < NOW


async def test_an_applications_pool_gets_its_connections_back_as_they_were(url: str) -> None:
    pool: Any = AsyncConnectionPool(url, min_size=1, max_size=1, open=False)
    async with pool:
        shared = await Database.from_pool(pool)
        with freeze(shared, NOW):
            assert await now(shared) == NOW
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT current_setting('docyard.now', true)")
                assert await cursor.fetchone() == ("",)
                await connection.rollback()
            with pytest.raises(psycopg.errors.DivisionByZero):
                await query(shared, "SELECT 1 / 0")
            assert await now(shared) == NOW
        assert shared.pool is pool


async def test_two_databases_may_have_two_times(database: Database, url: str) -> None:
    async with opened(url) as other:
        with freeze(database, NOW), freeze(other, NOW + HOUR):
            assert await now(other) - await now(database) == HOUR


async def test_a_job_is_due_when_its_time_comes(database: Database) -> None:
    with freeze(database, NOW) as clock:
        await add(database, NewJob("work", run_at=NOW + HOUR))
        assert await claim(database) == []
        assert_enqueued(database, "work", state="scheduled", run_at=HOUR)
        clock.advance(HOUR)
        [job] = await claim(database)
        assert job.started_at == NOW + HOUR


async def test_a_worker_works_under_a_frozen_clock(database: Database) -> None:
    registry = Registry()

    @registry.handler("work", backoff=AT_ONCE)
    def work(attempt: Any, payload: Any) -> None:
        if attempt.number == 1:
            raise ZeroDivisionError
        with attempt.commit_sync():
            pass

    with freeze(database, NOW):
        await add(database, NewJob("work"))
        await drain(database, registry, heartbeat_seconds=0.1)
        [job] = await query(database, "SELECT state, finished_at FROM docyard.jobs")
        assert (job["state"], job["finished_at"]) == ("completed", NOW)


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInput, match="must name its time zone"), freeze(database, datetime(2030, 1, 1)):  # noqa: DTZ001
        pass


async def test_behind_a_transaction_pooler_it_is_refused(url: str) -> None:
    async with opened(url, pooler="transaction") as database:
        with pytest.raises(ConfigError, match="transaction pooler"), freeze(database, NOW):
            pass
