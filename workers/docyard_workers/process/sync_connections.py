"""Connections for sync handlers, opened when the first one asks."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool

from docyard_schema.answers import PatientSyncConnection
from docyard_schema.connection import connection_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from docyard_schema.database import Database


class SyncConnections:
    """A pool of at most ``size`` connections to a database; safe to use from any thread."""

    def __init__(self, database: Database, size: int) -> None:
        self._database = database
        self._size = size
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._opening = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit."""
        with self._open().connection() as connection:
            yield connection

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back. Blocks for a few seconds at most."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()

    def _limit(self, connection: psycopg.Connection[Any]) -> None:
        assert isinstance(connection, PatientSyncConnection)  # noqa: S101 - the pool's own class
        connection.answer_seconds = self._database.settings.pool_answer_seconds or None
        connection.abandoned = self._database.abandoned

    def _open(self) -> ConnectionPool[psycopg.Connection[Any]]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    connection_class=PatientSyncConnection,
                    configure=self._limit,
                    kwargs=connection_arguments(self._database.url, self._database.settings),
                    min_size=0,
                    max_size=self._size,
                    # After a restart of the server the idle ones are dead.
                    check=ConnectionPool.check_connection,
                    open=True,
                    name="docyard-sync",
                )
            return self._pool
