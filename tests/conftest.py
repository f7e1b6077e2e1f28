"""One embedded Postgres per run, one migrated template database, one clone of it per test."""

from __future__ import annotations

import fcntl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from support.embedding_server import EmbeddingServer

from docyard_schema import Database, DatabaseSettings
from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEMPLATE = "docyard_template"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys and settings must not reach a test."""
    import os

    for name in list(os.environ):
        if name.startswith(("DOCYARD_", "OPENAI_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[EmbeddedServer]:
    """The run's Postgres: shared by all of xdist's processes, stopped by the last."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    # Nothing outlives a test run, so nothing has to reach the disk.
    speed = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}
    speed |= {"wal_level": "minimal", "max_wal_senders": "0"}
    with EmbeddedServer.acquire(shared / "embedded", settings=speed) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """The name of a database with the schema in it, that nobody connects to."""
    lock = Path(server.data_directory).parent / "template.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{TEMPLATE}_new")))
                _run(_initialize(server.conninfo_for(f"{TEMPLATE}_new")))
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                        sql.Identifier(f"{TEMPLATE}_new"), sql.Identifier(TEMPLATE)
                    )
                )
    return TEMPLATE


@pytest.fixture
def empty_url(server: EmbeddedServer) -> Iterator[str]:
    """A new database without docyard's schema."""
    yield from _database(server, "template1")


@pytest.fixture
def url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """A new database with docyard's schema."""
    yield from _database(server, template)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A :class:`Database` on a new database with the schema."""
    async with opened(url) as connected:
        yield connected


@pytest.fixture
def embedding_server() -> Iterator[EmbeddingServer]:
    """A real HTTP server that speaks the embeddings API and counts."""
    with EmbeddingServer() as running:
        yield running


@asynccontextmanager
async def opened(url: str, **settings: object) -> AsyncIterator[Database]:
    async with await Database.connect(url, settings=DatabaseSettings(**settings)) as connected:  # type: ignore[arg-type]
        await connected.initialize()
        yield connected


def _database(server: EmbeddedServer, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
        connection.execute(
            # Copied as files: a third of the time of writing every page to the log.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield server.conninfo_for(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def _initialize(url: str) -> None:
    async with await Database.connect(url) as connected:
        await connected.initialize(migrate_schema=True)


def _run(work: object) -> None:
    import asyncio
    import threading

    # pytest-asyncio may have a loop running in this thread; a thread of its own has none.
    raised: list[BaseException] = []

    def main() -> None:
        try:
            asyncio.run(work)  # type: ignore[arg-type]
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
