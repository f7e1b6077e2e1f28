"""Databases for tests: one server, one template that has the schema, a clone of it for each test."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from docyard_schema import Database
from docyard_schema.embedded import EmbeddedServer
from docyard_schema.migrations import load_steps

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

# Nothing outlives a test run, so nothing has to reach the disk.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
}


@contextmanager
def embedded_server(folder: Path) -> Iterator[EmbeddedServer]:
    """A throwaway Postgres in ``folder``, shared by all processes that ask for it; the last one stops it."""
    with EmbeddedServer.acquire(folder, settings=FAST) as server:
        yield server


def template_database(url: str) -> str:
    """The name of a database with the schema in it, made when it is not there yet; nobody connects to it.

    ``url`` leads to any database of the server, as a user who may create databases. The name tells the
    version of the schema, so that one of an older docyard is not taken for it.
    """
    checksums = "".join(step.checksum for step in load_steps())
    name = f"docyard_template_{hashlib.sha256(checksums.encode()).hexdigest()[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        # Of several processes the first one makes it.
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            new = f"{name}_new"
            connection.execute(_name("DROP DATABASE IF EXISTS {} WITH (FORCE)", new))
            connection.execute(_name("CREATE DATABASE {}", new))
            _run_apart(_initialize(make_conninfo(url, dbname=new)))
            connection.execute(_name("ALTER DATABASE {} RENAME TO {}", new, name))
    return name


@contextmanager
def new_database(url: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, a copy of ``template``; dropped at the end, whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        # Copied as files: a third of the time of writing every page to the log.
        connection.execute(_name("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template))
        try:
            yield make_conninfo(url, dbname=name)
        finally:
            connection.execute(_name("DROP DATABASE {} WITH (FORCE)", name))


async def _initialize(url: str) -> None:
    async with await Database.connect(url) as database:
        await database.initialize(migrate_schema=True)


def _name(statement: LiteralString, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    # A plugin may have a loop running in this thread; a thread of its own has none.
    raised: list[BaseException] = []

    def main() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            raised.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
