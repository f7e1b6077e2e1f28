"""A Postgres of its own for a benchmark, gone afterwards, with as many databases as it asks for."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg import sql

from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """The embedded PostgreSQL 18 in a temporary home: fsync on, docyard's own settings."""

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded

    def create(self, name: str) -> str:
        """A new empty database; its URL, which psycopg, asyncpg and node-postgres all read."""
        self._command("CREATE DATABASE {}", name)
        return self.url(name)

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """A copy of a database that nobody is connected to; gone after the block, whoever uses it."""
        name = f"{template}_{uuid4().hex[:8]}"
        self._command("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
        try:
            yield self.url(name)
        finally:
            self._command("DROP DATABASE {} WITH (FORCE)", name)

    def url(self, name: str) -> str:
        """Where a database is."""
        parts = psycopg.conninfo.conninfo_to_dict(self._embedded.conninfo_for(name))
        return f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"

    def _command(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def temporary_server(**settings: Any) -> Iterator[Server]:
    """A running server with these PostgreSQL settings beside docyard's own."""
    with (
        tempfile.TemporaryDirectory(prefix="docyard-benchmark-", ignore_cleanup_errors=True) as folder,
        EmbeddedServer.acquire(Path(folder) / "home", settings=settings) as embedded,
    ):
        yield Server(embedded)


def settle(url: str) -> None:
    """As autovacuum would have left it, so that it need not come in between; and nothing left to flush."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
