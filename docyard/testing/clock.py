"""A clock to set: the time that the database tells to the connections of one :class:`Database`."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from docyard_schema import ConfigError, InvalidInput
from docyard_schema.connection_string import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema import Connection, Database
    from docyard_schema.pool import Pool


class Clock:
    """The time of a frozen database: it stands still until it is moved."""

    def __init__(self, database: Database, at: datetime) -> None:
        self._database = database
        self._url = database.url
        self._now = _aware(at)
        self._tell()

    @property
    def now(self) -> datetime:
        """What the database says."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Let time pass; returns the new time. Backwards is possible too, as it is for real clocks."""
        return self.move_to(self._now + by)

    def move_to(self, at: datetime) -> datetime:
        """Set it; returns the new time, which counts for whatever the database is asked next."""
        self._now = _aware(at)
        self._tell()
        return self._now

    def _tell(self) -> None:
        # For connections beside the pool: of a heartbeat, of a sync handler.
        options = f"{read(self._url).get('options', '')} -c docyard.now={self._now.isoformat()}"
        self._database.url = make_conninfo(self._url, options=options.strip())


@contextmanager
def freeze(database: Database, at: datetime | None = None) -> Iterator[Clock]:
    """Stop a database's clock at a time, now if None, as long as the block lasts.

    It counts for what goes through this :class:`Database`: due times, backoffs, unique periods, prune.
    Other connections to the same database keep the real time; one that is lent while the clock moves keeps
    its time until it is given back. A :class:`Worker` that runs in the block beats with the time at which it
    started: use :func:`drain`. Raises :class:`InvalidInput` for a time without a time zone, and
    :class:`ConfigError` behind a transaction pooler, whose connections are everybody's.
    """
    if database.settings.pooler == "transaction":
        raise ConfigError(
            "A clock cannot be set through a transaction pooler.",
            hint="Let tests connect to the server itself.",
        )
    url, pool = database.url, database.pool
    clock = Clock(database, at or datetime.now(UTC))
    database.pool = cast("Pool", _FrozenPool(pool, clock))
    try:
        yield clock
    finally:
        database.url, database.pool = url, pool


def clock_of(database: Database) -> Clock | None:
    """The clock of a frozen database, else None."""
    pool: object = database.pool
    return pool.clock if isinstance(pool, _FrozenPool) else None


class _FrozenPool:
    """A pool whose connections have the clock's time while they are lent, and the real one again after."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self.clock = clock
        self._pool = pool

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - the pool's own
        connection = await self._pool.getconn(timeout)
        try:
            await connection.execute(
                "SELECT set_config('docyard.now', %s, false)", [self.clock.now.isoformat()]
            )
            if not connection.autocommit:
                await connection.commit()
        except BaseException:
            await self._pool.putconn(connection)
            raise
        return connection

    async def putconn(self, connection: Connection) -> None:
        try:
            if connection.info.transaction_status is TransactionStatus.IDLE:
                await connection.execute("RESET docyard.now")
                if not connection.autocommit:
                    await connection.commit()
            else:
                # Whoever comes next must not meet another time: the pool opens a new one.
                await connection.close()
        finally:
            await self._pool.putconn(connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def _aware(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise InvalidInput(
            f"A clock's time must name its time zone, got {at.isoformat()}.",
            hint="For example: datetime(2030, 1, 1, tzinfo=UTC).",
        )
    return at
