"""Migrating beside others: readers, other migrators, and those that were killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.eventually import eventually
from support.examples import fill
from support.locks import waiting_for_locks

from docyard_schema import Database, MigrationError
from docyard_schema.migrations import load_steps, migrate, rollback, snapshot
from docyard_schema.migrations.migration_lock import one_migrator

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST = len(load_steps())

_MIGRATOR = """
import asyncio, sys
from docyard_schema import Database

async def main():
    async with await Database.connect(sys.argv[1]) as database:
        await database.initialize(migrate_schema=True)

asyncio.run(main())
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def migrator(url: str, processes: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", _MIGRATOR, url])
    processes.append(process)
    return process


def held(url: str, table: str, mode: str) -> psycopg.Connection[tuple[object, ...]]:
    """A transaction that holds a lock until it is closed."""
    connection = psycopg.connect(url)
    connection.execute(f"LOCK TABLE docyard.{table} IN {mode} MODE".encode())
    return connection


@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ACCESS EXCLUSIVE"])
async def test_a_lock_that_is_held_delays_a_step_until_it_is_let_go(
    database: Database, url: str, mode: str
) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=5)
        with held(url, "chunks", mode):
            migrating = asyncio.create_task(migrate(connection, database.namespace))
            await eventually(lambda: waiting_for_locks(url), what="the step to wait")
            assert not migrating.done()
        assert [step.number for step in await migrating] == list(range(6, LAST + 1))


async def test_a_lock_that_is_not_let_go_leaves_all_as_it_was(database: Database, url: str) -> None:
    await fill(database)
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=5)
        before = await snapshot(connection, "docyard")
        with held(url, "chunks", "ACCESS SHARE"):
            begun = time.monotonic()
            with pytest.raises(
                MigrationError, match=r"0006_\w+\.up\.sql got no lock within 0\.5 s"
            ) as caught:
                await migrate(connection, database.namespace, timeout_seconds=0.5)
            assert time.monotonic() - begun < 5
        assert "DOCYARD_MIGRATION_TIMEOUT_SECONDS" in caught.value.hint
        assert "pg_stat_activity" in caught.value.hint
        assert await snapshot(connection, "docyard") == before
        assert len(await migrate(connection, database.namespace)) == LAST - 5


async def test_readers_never_queue_long_behind_a_step_that_waits(database: Database, url: str) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=5)
        with held(url, "chunks", "ACCESS SHARE"):
            migrating = asyncio.create_task(migrate(connection, database.namespace, timeout_seconds=20))
            await eventually(lambda: waiting_for_locks(url), what="the step to wait")
            # Nobody passes one that waits for a strong lock; so that one gives way, again and again.
            async with database.connection() as reader:
                begun = time.monotonic()
                await reader.execute("SELECT count(*) FROM docyard.chunks")
            assert time.monotonic() - begun < 2
        await migrating


async def test_an_application_is_never_the_victim_of_a_deadlock_with_a_step(
    database: Database, url: str
) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=5)
        with held(url, "documents", "ACCESS EXCLUSIVE") as application:
            migrating = asyncio.create_task(migrate(connection, database.namespace, timeout_seconds=20))
            await eventually(lambda: waiting_for_locks(url), what="the step to wait")
            # The step holds the chunks and waits for the documents; the application the other way round.
            await asyncio.to_thread(application.execute, "SELECT count(*) FROM docyard.chunks")
            application.commit()
        await migrating


async def test_another_migrator_is_waited_for_but_not_for_ever(empty_url: str) -> None:
    async with await Database.connect(empty_url) as database, database.dedicated() as connection:
        await database.initialize(migrate_schema=True)
        async with database.dedicated() as other:
            entered, leave = asyncio.Event(), asyncio.Event()

            async def migrate_slowly() -> None:
                async with one_migrator(other, database.namespace, 30):
                    entered.set()
                    await leave.wait()

            slow = asyncio.create_task(migrate_slowly())
            await entered.wait()
            with pytest.raises(MigrationError, match=r"Another process has been migrating .* for 0\.2 s"):
                await migrate(connection, database.namespace, timeout_seconds=0.2)
            waiting = asyncio.create_task(migrate(connection, database.namespace))
            leave.set()
            await slow
            assert await waiting == []


def test_two_processes_migrate_at_once(empty_url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    both = [migrator(empty_url, processes) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    with psycopg.connect(empty_url) as connection:
        applied = connection.execute(
            "SELECT number FROM docyard.schema_migrations ORDER BY number"
        ).fetchall()
    assert [number for (number,) in applied] == list(range(1, LAST + 1))


async def test_a_migrator_that_is_killed_within_a_step_leaves_nothing_of_it(
    database: Database, url: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=5)
        before = await snapshot(connection, "docyard")
        with held(url, "chunks", "ACCESS SHARE"):
            process = migrator(url, processes)
            await eventually(lambda: waiting_for_locks(url), seconds=30, what="the step to wait")
            process.send_signal(signal.SIGKILL)
            process.wait()
        # Whoever comes next needs no hand: the dead one's lock goes with its connection.
        assert len(await migrate(connection, database.namespace)) == LAST - 5
        await rollback(connection, database.namespace, to=5)
        assert await snapshot(connection, "docyard") == before


async def test_a_migrator_that_is_killed_in_a_long_statement_frees_the_lock_soon(
    database: Database, url: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    script = """
import asyncio, sys
from docyard_schema import Database
from docyard_schema.migrations.migration_lock import one_migrator

async def main():
    async with await Database.connect(sys.argv[1]) as database, database.dedicated() as connection:
        async with one_migrator(connection, database.namespace, 30):
            await connection.execute("SELECT pg_sleep(600)")

asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script, url])
    processes.append(process)

    async def sleeps() -> bool:
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            return await cursor.fetchone() is not None

    await eventually(sleeps, seconds=30, what="the long statement to run")
    process.kill()
    process.wait()
    async with database.dedicated() as connection:
        assert await migrate(connection, database.namespace, timeout_seconds=20) == []


async def test_a_connection_that_is_cut_within_a_step_leaves_nothing_of_it(
    database: Database, url: str
) -> None:
    async with database.dedicated() as connection, database.dedicated() as other:
        await rollback(connection, database.namespace, to=5)
        before = await snapshot(other, "docyard")
        with held(url, "chunks", "ACCESS SHARE"):
            migrating = asyncio.create_task(migrate(connection, database.namespace))
            await eventually(lambda: waiting_for_locks(url), what="the step to wait")
            await other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            with pytest.raises(MigrationError, match="failed and was rolled back") as caught:
                await migrating
        assert "docyard db migrate" in caught.value.hint
        assert await snapshot(other, "docyard") == before
        assert len(await migrate(other, database.namespace)) == LAST - 5
