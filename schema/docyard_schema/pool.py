"""The pool of connections: made from settings, and asked why it has none to give."""

from __future__ import annotations

import inspect
import select
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from docyard_schema.answers import PatientConnection, answering_within
from docyard_schema.connection_failure import unavailable
from docyard_schema.errors import ConfigError, DatabaseError, PoolExhausted

if TYPE_CHECKING:
    from docyard_schema.answers import Abandoned
    from docyard_schema.settings import DatabaseSettings

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Pool: TypeAlias = AsyncConnectionPool[Connection]

# A check is a round trip without work: a caller shall not wait long for a connection that is dead.
_CHECK_SECONDS = 5.0

# Arguments of psycopg's connect that libpq does not know.
_NOT_LIBPQS = {"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"}


def make_pool(
    arguments: dict[str, Any], settings: DatabaseSettings, abandoned: list[Abandoned] | None = None
) -> Pool:
    """A pool that is not open yet. Sessions that it gave up are written down in ``abandoned``.

    Raises :class:`ConfigError` when its sizes contradict each other."""
    if settings.pool_min_size > settings.pool_max_size:
        raise ConfigError(
            f"pool_min_size ({settings.pool_min_size}) is above pool_max_size ({settings.pool_max_size}).",
            hint="Raise DOCYARD_POOL_MAX_SIZE or lower DOCYARD_POOL_MIN_SIZE.",
        )

    async def limit(connection: Connection) -> None:
        assert isinstance(connection, PatientConnection)  # noqa: S101 - the pool's own class
        connection.answer_seconds = settings.pool_answer_seconds or None
        connection.abandoned = abandoned

    return AsyncConnectionPool(
        connection_class=PatientConnection,
        kwargs=arguments,
        configure=limit,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.pool_acquire_seconds,
        max_idle=settings.pool_idle_seconds,
        max_lifetime=settings.pool_lifetime_seconds,
        check=check_connection,
        open=False,
        name="docyard",
    )


async def check_connection(connection: Connection) -> None:
    """Raise :class:`psycopg.OperationalError` if the server has ended this connection.

    After a restart of the server the pool is full of dead connections, and a caller shall not meet one. A
    healthy idle connection has nothing to say; only one whose socket has something to read (the end, most
    likely) is asked, so the check costs a system call and not a round trip for every use.
    """
    readable = select.poll()
    readable.register(connection.pgconn.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    if readable.poll(0):
        with answering_within(connection, _CHECK_SECONDS):
            await AsyncConnectionPool.check_connection(connection)


async def connection_string(pool: Pool) -> str:
    """What the pool's connections are opened with, for one beside it."""
    conninfo: Any = pool.conninfo
    options: Any = pool.kwargs
    # A pool takes functions for both, so that passwords can change.
    if callable(conninfo):
        conninfo = conninfo()
        conninfo = await conninfo if inspect.isawaitable(conninfo) else conninfo
    if callable(options):
        options = options()
        options = await options if inspect.isawaitable(options) else options
    known = {name: value for name, value in (options or {}).items() if name not in _NOT_LIBPQS}
    return make_conninfo(conninfo, **known)


async def why_none(pool: Pool, waited_seconds: float) -> DatabaseError:
    """Why no connection came within the time: all are in use, or the server is out of reach.

    A pool tells both with the same words, for it goes on trying; one plain attempt beside it tells them
    apart.
    """
    url = await connection_string(pool)
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=2):
            pass
    except psycopg.OperationalError as error:
        return unavailable(error, url)
    return PoolExhausted(
        f"All {pool.max_size} connections were in use for {waited_seconds:g} s.",
        hint="Raise DOCYARD_POOL_MAX_SIZE, or look for transactions that stay open: docyard doctor.",
        operation="acquire",
    )
