"""The one way to the database, for every domain."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from docyard_schema.answers import PatientConnection, answering_within
from docyard_schema.connection import connection_arguments, require_version
from docyard_schema.connection_failure import unavailable
from docyard_schema.connection_string import describe
from docyard_schema.embedded import EmbeddedServer
from docyard_schema.errors import ConfigError, DatabaseUnavailable
from docyard_schema.health import Health, check_pool
from docyard_schema.migrations import check_vectors, check_version, ensure_vectors, find_vectors, migrate
from docyard_schema.namespace import Namespace
from docyard_schema.pool import Connection, Pool, connection_string, make_pool, why_none
from docyard_schema.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docyard_schema.answers import Abandoned

__all__ = ["Backend", "Connection", "Database"]

Backend: TypeAlias = Literal["embedded", "server"]

_AS_IT_IS = nullcontext()


class Database:
    """A pool of connections to one Postgres, embedded or not, and the names of docyard's schema in it.

    Made by :meth:`connect` or :meth:`from_pool`, never directly. It is also an asynchronous context
    manager that closes itself. Connections are in autocommit: a statement alone needs no BEGIN and COMMIT,
    and :meth:`transaction` is where several belong together.
    """

    def __init__(
        self,
        pool: Pool,
        namespace: Namespace,
        settings: DatabaseSettings,
        *,
        url: str,
        server: EmbeddedServer | None = None,
        owns_pool: bool = True,
    ) -> None:
        self.pool = pool
        self.namespace = namespace
        self.settings = settings
        self.url = url
        # Sessions whose connections fell silent and were given up here; at the server they may live on.
        self.abandoned: list[Abandoned] = []
        self._server = server
        self._owns_pool = owns_pool
        self._backend: Backend = "server" if server is None else "embedded"

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
            abandoned: list[Abandoned] = []
            pool = make_pool(arguments, settings, abandoned)
            # One plain connection first: a pool would hide why it cannot connect behind its own time limit.
            async with _connected(url, arguments, settings) as connection:
                require_version(connection.info.server_version)
                vectors = await find_vectors(connection)
            await pool.open()
        except BaseException:
            if server is not None:
                await asyncio.to_thread(server.release)
            raise
        namespace = Namespace(settings.database_schema, vectors or "public")
        database = cls(pool, namespace, settings, url=url, server=server)
        database.abandoned = abandoned
        return database

    @classmethod
    async def from_pool(cls, pool: Pool, *, settings: DatabaseSettings | None = None) -> Self:
        """Share an application's own pool; closing the database leaves it open.

        Its connections may be in autocommit or not, and make rows as they like: docyard opens its own
        transactions, and reads tuples as long as it holds a connection.
        """
        database = cls(
            pool,
            Namespace((settings or DatabaseSettings()).database_schema),
            settings or DatabaseSettings(),
            url=await connection_string(pool),
            owns_pool=False,
        )
        async with database.connection() as connection:
            require_version(connection.info.server_version)
            await database._find_vectors(connection)
        return database

    @property
    def backend(self) -> Backend:
        """``embedded`` when docyard runs the server itself, else ``server``."""
        return self._backend

    async def initialize(self, *, migrate_schema: bool | None = None) -> Self:
        """Make sure that the schema is there and fits this code.

        The embedded database is migrated; a server only when ``migrate_schema`` or the setting
        ``auto_migrate`` says so, otherwise a schema that is absent, older or newer raises
        :class:`SchemaMismatch` naming the command that mends it. pgvector that is absent or too old
        raises :class:`ExtensionMissing`.
        """
        if migrate_schema is None:
            migrate_schema = self.backend == "embedded" or self.settings.auto_migrate
        if migrate_schema:
            async with self.dedicated() as connection:
                await ensure_vectors(connection, self.namespace.schema)
                await self._find_vectors(connection)
                await migrate(
                    connection, self.namespace, timeout_seconds=self.settings.migration_timeout_seconds
                )
        async with self.connection() as connection:
            await self._find_vectors(connection)
            await check_version(connection, self.namespace)
            await check_vectors(connection)
        return self

    def sql(self, statement: str) -> bytes:
        """``statement`` with this database's schema names in it; cached."""
        return self.namespace.sql(statement)

    @asynccontextmanager
    async def connection(self, joined: Connection | None = None) -> AsyncIterator[Connection]:
        """A connection for single statements: ``joined`` itself when a caller brought one.

        It makes tuples of rows, whatever its own row factory is, and gets that one back at the end.
        Raises :class:`PoolExhausted` when none becomes free in time, :class:`DatabaseUnavailable` when
        that is because the server is gone.
        """
        if joined is not None:
            with _reading_tuples(joined):
                yield joined
            return
        try:
            connection = await self.pool.getconn()
        except (PoolTimeout, TooManyRequests) as error:
            raise await why_none(self.pool, self.pool.timeout) from error
        except PoolClosed as error:
            raise DatabaseUnavailable(
                f"The database is closed: {self.describe()}.", operation="acquire", reason=str(error)
            ) from error
        try:
            # A connection of a pool commits or rolls back at the end of its block, and stays open.
            async with connection:
                with self._limited(connection), _reading_tuples(connection):
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

        With ``joined`` it is a savepoint in the caller's transaction, which stays the caller's to commit
        (one in autocommit outside a transaction has none to join: it gets one of its own).
        ``isolation`` cannot be given then: it belongs to whoever began the transaction.
        """
        if joined is not None:
            if isolation is not None:
                raise ConfigError("A joined transaction keeps the isolation level that it began with.")
            if not joined.autocommit and joined.info.transaction_status is TransactionStatus.IDLE:
                # Its transaction begins with its first statement. Were that our BEGIN, psycopg would take the
                # block for the whole transaction and commit it.
                await joined.execute("SELECT")
        async with self.connection(joined) as connection, connection.transaction():
            if isolation is not None:
                level = isolation.name.replace("_", " ")
                await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
            yield connection

    @asynccontextmanager
    async def dedicated(self, *, session: bool = True, **arguments: Any) -> AsyncIterator[Connection]:
        """A connection outside the pool and past any pooler: for LISTEN, heartbeats and migrations.

        ``session`` says that it needs a session of its own (LISTEN, advisory locks, SET). Then
        :class:`ConfigError` is raised when a transaction pooler stands between and no way past it is known;
        without, the connection goes through the pooler. ``arguments`` are psycopg's.
        """
        direct = self.settings.direct_database_url
        pooled = direct is None and self.settings.pooler == "transaction"
        if session and pooled:
            raise ConfigError(
                "A connection past the transaction pooler is needed here.",
                hint="Set DOCYARD_DIRECT_DATABASE_URL to the same database without the pooler.",
                operation="connect",
            )
        url = self.url if direct is None else direct.get_secret_value()
        options = connection_arguments(url, self.settings, direct=not pooled) | arguments
        async with _connected(url, options, self.settings) as connection:
            yield connection

    async def health_check(self) -> Health:
        """Ask the database something small. Never raises; takes at most a few seconds."""
        return await check_pool(self.pool)

    async def close(self) -> None:
        """Close the pool; the last process to close an embedded database stops its server. Idempotent."""
        server, self._server = self._server, None
        try:
            if self._owns_pool:
                await self.pool.close()
        finally:
            if server is not None:
                await asyncio.to_thread(server.release)

    def describe(self) -> str:
        """Where the data is, for people; never with a password."""
        if self._server is not None:
            return f"the embedded database in {self._server.data_directory.parent}"
        return describe(self.url)

    def __repr__(self) -> str:
        return f"<Database {self.describe()}, schema {self.namespace.schema}>"

    def _limited(self, connection: Connection) -> AbstractContextManager[None]:
        if self._owns_pool:
            # The pool saw to it when it opened the connection.
            return _AS_IT_IS
        seconds = self.settings.pool_answer_seconds or None
        return answering_within(connection, seconds, abandoned=self.abandoned)

    async def _find_vectors(self, connection: Connection) -> None:
        self.namespace = Namespace(self.namespace.schema, await find_vectors(connection) or "public")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def _connected(
    url: str, arguments: dict[str, Any], settings: DatabaseSettings
) -> AsyncIterator[Connection]:
    try:
        connection = await PatientConnection.connect(**arguments)
    except psycopg.OperationalError as error:
        raise unavailable(error, url) from error
    connection.answer_seconds = settings.pool_answer_seconds or None
    async with connection:
        yield connection


@contextmanager
def _reading_tuples(connection: Connection) -> Iterator[None]:
    factory, connection.row_factory = connection.row_factory, tuple_row
    try:
        yield
    finally:
        connection.row_factory = factory
