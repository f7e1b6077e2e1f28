"""The pool: its settings, what it says when it has nothing to give, and how it survives its server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import opened
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from support.eventually import eventually
from support.examples import fill, store

from docyard_schema import (
    ConfigError,
    Database,
    DatabaseSettings,
    DatabaseUnavailable,
    DocumentRepository,
    HealthStatus,
    ModelRepository,
    PoolExhausted,
)

if TYPE_CHECKING:
    from support.scratch_server import ScratchServer


async def test_the_settings_reach_the_pool(url: str) -> None:
    async with opened(
        url,
        pool_min_size=2,
        pool_max_size=3,
        pool_acquire_seconds=4,
        pool_idle_seconds=5,
        pool_lifetime_seconds=6,
    ) as database:
        pool = database.pool
        found = (pool.min_size, pool.max_size, pool.timeout, pool.max_idle, pool.max_lifetime)
        assert found == (2, 3, 4, 5, 6)
        await pool.wait(timeout=10)
        assert pool.get_stats()["pool_size"] >= 2


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = DatabaseSettings()
    assert (settings.pool_min_size, settings.pool_max_size, settings.pool_acquire_seconds) == (1, 10, 30)
    assert (settings.pool_idle_seconds, settings.pool_lifetime_seconds) == (600, 1800)
    assert (settings.database_schema, settings.pooler, settings.auto_migrate) == ("docyard", "none", False)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DOCYARD_POOL_MAX_SIZE": "7",
        "DOCYARD_SCHEMA": "other",
        "DOCYARD_POOLER": "transaction",
        "DOCYARD_AUTO_MIGRATE": "1",
        "DOCYARD_TLS_MODE": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = DatabaseSettings()
    assert (settings.pool_max_size, settings.database_schema) == (7, "other")
    assert (settings.pooler, settings.auto_migrate, settings.tls_mode) == ("transaction", True, None)


async def test_sizes_that_contradict_each_other_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"pool_min_size \(5\) is above pool_max_size \(2\)") as caught:
        await Database.connect(url, settings=DatabaseSettings(pool_min_size=5, pool_max_size=2))
    assert "DOCYARD_POOL_MAX_SIZE" in caught.value.hint


@pytest.mark.fault(7)
async def test_an_exhausted_pool_says_so_and_is_degraded(url: str) -> None:
    async with opened(url, pool_max_size=1, pool_acquire_seconds=0.2) as database:
        async with database.connection():
            with pytest.raises(PoolExhausted, match=r"All 1 connections were in use for 0\.2 s") as caught:
                await DocumentRepository(database).list()
            assert caught.value.retryable
            assert caught.value.code == "pool_exhausted"
            assert "DOCYARD_POOL_MAX_SIZE" in caught.value.hint
            health = await database.health_check()
            assert health.status is HealthStatus.DEGRADED
            assert "the pool is exhausted" in health.reason
        assert (await database.health_check()).status is HealthStatus.HEALTHY
        assert await DocumentRepository(database).list() == []


async def test_callers_that_wait_make_it_degraded(url: str) -> None:
    async with opened(url, pool_max_size=1) as database:
        release = asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                await release.wait()

        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        await eventually(lambda: database.pool.get_stats().get("requests_waiting") == 2)
        checking = asyncio.create_task(database.health_check())
        await asyncio.sleep(0)
        release.set()
        health = await checking
        await asyncio.gather(*tasks)
    assert (health.status, health.reason) == (HealthStatus.DEGRADED, "2 callers wait for a connection")


@pytest.mark.fault(5)
async def test_connections_that_the_server_ended_are_never_handed_out(url: str) -> None:
    async with opened(url, pool_min_size=4, pool_max_size=4) as database:
        await database.pool.wait()
        with psycopg.connect(url, autocommit=True) as administrator:
            ended = administrator.execute(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert ended == (4,)
        documents = DocumentRepository(database)
        assert await asyncio.gather(*(documents.list() for _ in range(8))) == [[]] * 8


async def test_a_server_that_crashes_and_comes_back_is_met_again(
    scratch: ScratchServer, scratch_url: str
) -> None:
    async with await Database.connect(scratch_url) as database:
        await database.initialize(migrate_schema=True)
        await store(database)
        scratch.stop(immediate=True)
        health = await database.health_check()
        assert health.status is HealthStatus.UNAVAILABLE
        assert "no server answers there" in health.reason
        assert health.milliseconds < 7000
        restarting = asyncio.create_task(asyncio.to_thread(scratch.start))
        # Who comes while it is away waits, and does not fail.
        assert len(await DocumentRepository(database).list()) == 1
        await restarting
        assert (await database.health_check()).status is HealthStatus.HEALTHY


async def test_a_server_that_stays_away_is_told_apart_from_a_busy_pool(
    scratch: ScratchServer, scratch_url: str
) -> None:
    settings = DatabaseSettings(pool_acquire_seconds=0.3)
    async with await Database.connect(scratch_url, settings=settings) as database:
        scratch.stop(immediate=True)
        with pytest.raises(DatabaseUnavailable, match="no server answers there") as caught:
            await DocumentRepository(database).list()
        assert caught.value.retryable
        scratch.start()


async def test_a_standby_or_read_only_database_is_degraded(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    async with await Database.connect(url) as database:
        health = await database.health_check()
    assert health.status is HealthStatus.DEGRADED
    assert "read-only" in health.reason


async def test_a_closed_database_is_unavailable_and_closing_again_does_nothing(url: str) -> None:
    database = await Database.connect(url)
    await asyncio.gather(database.close(), database.close())
    await database.close()
    health = await database.health_check()
    assert (health.status, health.reason) == (HealthStatus.UNAVAILABLE, "the database is closed")
    with pytest.raises(DatabaseUnavailable, match="The database is closed"):
        await DocumentRepository(database).list()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(url: str) -> None:
    async with opened(url, pool_statement_seconds=0.1) as database:
        async with database.connection() as connection:
            begun = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
                await connection.execute("SELECT pg_sleep(30)")
            assert time.monotonic() - begun < 5
        async with database.dedicated() as connection:
            cursor = await connection.execute("SHOW statement_timeout")
            assert await cursor.fetchone() == ("100ms",)
        assert await DocumentRepository(database).list() == []


async def test_behind_a_transaction_pooler_no_session_state_is_used(url: str) -> None:
    async with opened(url, pooler="transaction") as database:
        async with database.connection() as connection:
            assert connection.prepare_threshold is None
            cursor = await connection.execute("SHOW statement_timeout")
            assert await cursor.fetchone() == ("0",)
            for _ in range(8):
                await connection.execute("SELECT 1")
            cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
            assert await cursor.fetchone() == (0,)
        await store(database)


async def test_what_needs_a_session_asks_for_a_way_past_the_pooler(url: str) -> None:
    async with opened(url, pooler="transaction") as database:
        with pytest.raises(ConfigError, match="past the transaction pooler") as caught:
            await database.initialize(migrate_schema=True)
        assert "DOCYARD_DIRECT_DATABASE_URL" in caught.value.hint
        async with database.dedicated(session=False) as connection:
            assert connection.prepare_threshold is None
    async with opened(url, pooler="transaction", direct_database_url=url) as database:
        await database.initialize(migrate_schema=True)
        async with database.dedicated() as connection:
            assert connection.prepare_threshold is not None


@pytest.mark.parametrize("autocommit", [True, False])
async def test_an_applications_own_pool_is_shared_and_left_open(url: str, autocommit: bool) -> None:
    async with AsyncConnectionPool(
        url, min_size=1, max_size=3, open=False, kwargs={"autocommit": autocommit, "row_factory": dict_row}
    ) as pool:
        async with await Database.from_pool(pool) as database:
            assert database.pool is pool
            assert database.backend == "server"
            await database.initialize()
            model = await fill(database)
            assert await ModelRepository(database).use(model.identity) == model
            documents = await DocumentRepository(database).list()
            assert len(documents) == 3
            assert (await database.health_check()).status is HealthStatus.HEALTHY
            async with database.dedicated() as connection:
                assert connection.info.dbname == database.describe().split('"')[1]
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT 1 AS one")
            assert await cursor.fetchone() == {"one": 1}
            assert connection.autocommit is autocommit
        assert not pool.closed


async def test_a_pool_whose_connection_string_is_a_function_can_be_shared(url: str) -> None:
    async def conninfo() -> str:
        return url

    async with AsyncConnectionPool(conninfo, min_size=1, open=False) as pool:
        database = await Database.from_pool(pool)
        await database.initialize(migrate_schema=True)
        async with database.dedicated() as connection:
            assert connection.info.dbname == database.describe().split('"')[1]


async def test_a_shared_pool_that_is_exhausted_tells_its_own_sizes(url: str) -> None:
    async with AsyncConnectionPool(url, min_size=1, max_size=2, timeout=0.2, open=False) as pool:
        database = await Database.from_pool(pool)
        async with pool.connection(), pool.connection():
            with pytest.raises(PoolExhausted, match=r"All 2 connections were in use for 0\.2 s"):
                await DocumentRepository(database).list()
