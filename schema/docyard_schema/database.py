"""The one way to the database, for every domain."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from docyard_schema.connection import connection_arguments, describe, unavailable
from docyard_schema.embedded import EmbeddedServer
from docyard_schema.errors import ConfigError, DatabaseError, PoolExhausted
from docyard_schema.health import Health, HealthStatus
from docyard_schema.migrations import check_version, ensure_vectors, find_vectors, migrate
from docyard_schema.namespace import Namespace
from docyard_schema.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Backend: TypeAlias = Literal["embedded", "server"]


class Database:
    """A pool of connections to one Postgres, embedded or not, and the names of docyard's schema in it.

    Made by :meth:`connect` or :meth:`from_pool`, never directly. It is also an asynchronous context
    manager that closes itself. Connections are in autocommit: a statement alone costs one round trip,
    and :meth:`transaction` is where several belong together.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        namespace: Namespace,
        settings: DatabaseSettings,
        *,
        url: str | None,
        server: EmbeddedServer | None = None,
        owns_pool: bool = True,
    ) -> None:
        self.pool = pool
        self.namespace = namespace
        self.settings = settings
        self.url = url
        self._server = server
        self._owns_pool = owns_pool

    @classmethod
    async def connect(cls, url: str | None = None, *, settings: DatabaseSettings | None = None) -> Self:
        """Open a pool on ``url``, or on ``DOCYARD_DATABASE_URL``, or on the embedded database.

        Nothing is created or changed in a server's database; :meth:`initialize` does that. Raises
        :class:`DatabaseUnavailable` (with the reason and what mends it), :class:`ConfigError` for a URL
        that cannot be read, :class:`EmbeddedError` when the embedded server does not start.
        """
        settings = settings or DatabaseSettings()
        if url is None and settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        server = None
        if url is None:
            server = await asyncio.to_thread(
                EmbeddedServer.acquire, settings.home, major=settings.embedded_version
            )
            url = server.conninfo
        try:
            arguments = connection_arguments(url, settings)
            vectors = await _find_vectors(url, arguments)
            pool = _make_pool(arguments, settings)
            await pool.open()
        except BaseException:
            if server is not None:
                await asyncio.to_thread(server.release)
            raise
        namespace = Namespace(settings.database_schema, vectors or "public")
        return cls(pool, namespace, settings, url=url, server=server)

    @classmethod
    async def from_pool(
        cls, pool: AsyncConnectionPool[Connection], *, settings: DatabaseSettings | None = None
    ) -> Self:
        """Share an application's own pool; closing the database leaves it open.

        Its connections may be in autocommit or not: docyard opens its transactions itself.
        """
        settings = settings or DatabaseSettings()
        async with pool.connection() as connection:
            vectors = await find_vectors(connection)
        namespace = Namespace(settings.database_schema, vectors or "public")
        return cls(pool, namespace, settings, url=pool.conninfo or None, owns_pool=False)

    @property
    def backend(self) -> Backend:
        """``embedded`` when docyard runs the server itself, else ``server``."""
        return "embedded" if self._server is not None else "server"

    async def initialize(self, *, migrate_schema: bool | None = None) -> Self:
        """Make sure that the schema is there and fits this code.

        The embedded database is migrated; a server only when ``migrate_schema`` or the setting
        ``auto_migrate`` says so, otherwise a schema that is absent, older or newer raises
        :class:`SchemaMismatch` naming the command that mends it.
        """
        if migrate_schema is None:
            migrate_schema = self.backend == "embedded" or self.settings.auto_migrate
        async with self.dedicated() as connection:
            if migrate_schema:
                await ensure_vectors(connection, self.namespace.schema)
            vectors = await find_vectors(connection)
            self.namespace = Namespace(self.namespace.schema, vectors or "public")
            if migrate_schema:
                await migrate(
                    connection, self.namespace, timeout_seconds=self.settings.migration_timeout_seconds
                )
            await check_version(connection, self.namespace)
        return self

    def sql(self, statement: str) -> bytes:
        """``statement`` with this database's schema names in it; cached."""
        return self.namespace.sql(statement)

    @asynccontextmanager
    async def connection(self, joined: Connection | None = None) -> AsyncIterator[Connection]:
        """A connection for single statements: ``joined`` itself when a caller brought one.

        Raises :class:`PoolExhausted` when none becomes free in time.
        """
        if joined is not None:
            yield joined
            return
        try:
            connection = await self.pool.getconn()
        except (PoolTimeout, TooManyRequests) as error:
            raise self._exhausted() from error
        try:
            async with connection:
                yield connection
        finally:
            await self.pool.putconn(connection)

    @asynccontextmanager
    async def transaction(
        self,
        joined: Connection | None = None,
        *,
        isolation: psycopg.IsolationLevel | None = None,
    ) -> AsyncIterator[Connection]:
        """A connection inside a transaction, committed at the end, rolled back on an error.

        With ``joined`` it is a savepoint in the caller's transaction, which stays the caller's to commit.
        ``isolation`` cannot be given then: it belongs to whoever began the transaction.
        """
        if joined is not None and isolation is not None:
            raise ConfigError("A joined transaction keeps the isolation level that it began with.")
        async with self.connection(joined) as connection, connection.transaction():
            if isolation is not None:
                level = isolation.name.replace("_", " ")
                await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
            yield connection

    @asynccontextmanager
    async def dedicated(self, **arguments: Any) -> AsyncIterator[Connection]:
        """A connection outside the pool and past any pooler: for LISTEN, heartbeats and migrations."""
        direct = self.settings.direct_database_url
        url = direct.get_secret_value() if direct is not None else self.url
        if url is None:
            raise ConfigError(
                "This database was made from a pool without a connection string.",
                hint="Set DOCYARD_DIRECT_DATABASE_URL, or use Database.connect(url).",
            )
        options = connection_arguments(url, self.settings, direct=True) | arguments
        try:
            connection = await psycopg.AsyncConnection.connect(**options)
        except psycopg.OperationalError as error:
            raise unavailable(error, url) from error
        async with connection:
            yield connection

    async def health_check(self) -> Health:
        """Ask the database something small. Never raises; takes at most a few seconds."""
        begun = time.perf_counter()
        status, reason = HealthStatus.HEALTHY, ""
        try:
            waiting = self.pool.get_stats().get("requests_waiting", 0)
            async with asyncio.timeout(5), self.pool.connection(timeout=3) as connection:
                cursor = await connection.execute("SELECT pg_is_in_recovery()")
                row = await cursor.fetchone()
            if row is not None and row[0]:
                status, reason = HealthStatus.DEGRADED, "the server is a standby: nothing can be written"
            elif waiting:
                status, reason = HealthStatus.DEGRADED, f"{waiting} callers wait for a connection"
        except (PoolTimeout, TooManyRequests):
            busy = self.pool.get_stats().get("pool_size", 0) > 0
            status = HealthStatus.DEGRADED if busy else HealthStatus.UNAVAILABLE
            reason = "the pool is exhausted" if busy else "no connection could be opened"
        except (TimeoutError, OSError, psycopg.Error) as error:
            status, reason = HealthStatus.UNAVAILABLE, str(error).strip() or "no answer within 5 seconds"
        return Health(status=status, reason=reason, milliseconds=(time.perf_counter() - begun) * 1000)

    async def close(self) -> None:
        """Close the pool; the last process to close an embedded database stops its server. Idempotent."""
        if self._owns_pool:
            await self.pool.close()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.release)

    def describe(self) -> str:
        """Where the data is, for people; never with a password."""
        if self._server is not None:
            return f"the embedded database in {self._server.data_directory.parent}"
        return describe(self.url) if self.url else "the application's pool"

    def _exhausted(self) -> PoolExhausted:
        settings = self.settings
        return PoolExhausted(
            f"All {settings.pool_max_size} connections were in use for {settings.pool_acquire_seconds:g} s.",
            hint="Raise DOCYARD_POOL_MAX_SIZE, or look for transactions that stay open: docyard doctor.",
            operation="acquire",
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_shared: dict[tuple[int, str | None, int], Database] = {}


async def shared_database(url: str | None = None) -> Database:
    """One initialized :class:`Database` per process, URL and event loop, opened at first use.

    Whoever calls it first decides the settings (the environment's); closing it is left to the end of
    the process, or to :meth:`Database.close`, after which the next call opens a new one.
    """
    key = (os.getpid(), url, id(asyncio.get_running_loop()))
    found = _shared.get(key)
    if found is None or found.pool.closed:
        found = await Database.connect(url)
        try:
            await found.initialize()
        except BaseException:
            await found.close()
            raise
        _shared[key] = found
    return found


async def _find_vectors(url: str, arguments: dict[str, Any]) -> str | None:
    # One plain connection first: a pool would hide why it cannot connect behind its own time limit.
    try:
        async with await psycopg.AsyncConnection.connect(**arguments) as connection:
            version = connection.info.server_version
            if version < 150000:
                raise DatabaseError(
                    f"docyard needs PostgreSQL 15 or newer, this server is {version // 10000}.",
                    hint="Upgrade the server, or leave the URL out to use the embedded database.",
                    operation="connect",
                )
            return await find_vectors(connection)
    except psycopg.OperationalError as error:
        raise unavailable(error, url) from error


def _make_pool(
    arguments: dict[str, Any], settings: DatabaseSettings
) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
    if settings.pool_min_size > settings.pool_max_size:
        raise ConfigError(
            f"pool_min_size ({settings.pool_min_size}) is above pool_max_size ({settings.pool_max_size}).",
            hint="Raise DOCYARD_POOL_MAX_SIZE or lower DOCYARD_POOL_MIN_SIZE.",
        )
    return AsyncConnectionPool(
        kwargs=arguments,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.pool_acquire_seconds,
        max_idle=settings.pool_idle_seconds,
        max_lifetime=settings.pool_lifetime_seconds,
        # After a restart of the server the pool is full of dead connections; a caller shall not meet one.
        check=AsyncConnectionPool.check_connection,
        open=False,
        name="docyard",
    )
