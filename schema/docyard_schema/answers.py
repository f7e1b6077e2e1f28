"""Connections that do not wait for ever for the server's answer.

The server's own limit, ``statement_timeout``, needs a server that can be heard, and keepalives notice a host
that is gone. Neither helps when something between the two swallows every byte and keeps the sockets open:
then only a limit that the client keeps ends the wait.

What is limited is silence, not work: rows that come in may take as long as they come. The clock is looked at
only when nothing came for a tenth of a second, so an answer that comes at once does not pay for it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from psycopg.pq.abc import PGconn

# The process id of a session at the server, and when (by time.monotonic) its connection was given up here.
Abandoned: TypeAlias = tuple[int, float]


class PatientConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when the server says nothing for ``answer_seconds`` (None: no limit).

    The statement fails with :class:`psycopg.OperationalError` then. Whether the server did what it was
    asked is not known, as with any connection that breaks. The session may stand at the server for hours
    and hold locks: it is written down in ``abandoned``, for whoever can end it there.
    """

    answer_seconds: float | None = None
    abandoned: list[Abandoned] | None = None

    @override
    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.answer_seconds is not None:
            gen = _heard(gen, self.pgconn, self.answer_seconds, self.abandoned)
        return await super().wait(gen, *arguments, **options)


class PatientSyncConnection(psycopg.Connection[Any]):
    """:class:`PatientConnection` for threads."""

    answer_seconds: float | None = None
    abandoned: list[Abandoned] | None = None

    @override
    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.answer_seconds is not None:
            gen = _heard(gen, self.pgconn, self.answer_seconds, self.abandoned)
        return super().wait(gen, *arguments, **options)


@contextmanager
def answering_within(
    connection: psycopg.AsyncConnection[Any],
    seconds: float | None,
    *,
    abandoned: list[Abandoned] | None = None,
) -> Iterator[None]:
    """Within the block ``connection``, whosever it is, waits so long for an answer; None is no limit.

    Where ``statement_timeout`` is lifted for something that takes long, this belongs beside it.
    """
    if isinstance(connection, PatientConnection):
        before, connection.answer_seconds = connection.answer_seconds, seconds
        try:
            yield
        finally:
            connection.answer_seconds = before
        return
    if seconds is None:
        yield
        return
    # An application's own: its class is not ours, so this one object is taught.
    taught: Any = connection
    taught.wait = partial(_wait, connection.wait, connection.pgconn, seconds, abandoned)
    try:
        yield
    finally:
        del taught.wait


async def _wait(
    wait: Callable[..., Awaitable[Any]],
    pgconn: PGconn,
    seconds: float,
    abandoned: list[Abandoned] | None,
    gen: Any,
    *arguments: Any,
    **options: Any,
) -> Any:
    return await wait(_heard(gen, pgconn, seconds, abandoned), *arguments, **options)


def _heard(
    gen: Generator[Any, Any, Any], pgconn: PGconn, seconds: float, abandoned: list[Abandoned] | None
) -> Generator[Any, Any, Any]:
    """One of psycopg's exchanges with the server, ended when the socket was not ready for so long.

    psycopg itself comes back ten times a second without news; only then is the clock asked.
    """
    silent_since: float | None = None
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                silent_since = None
            elif silent_since is None:
                silent_since = time.monotonic()
            elif (now := time.monotonic()) - silent_since > seconds:
                gen.close()
                if abandoned is not None:
                    abandoned.append((pgconn.backend_pid, now))
                pgconn.finish()
                raise psycopg.OperationalError(
                    f"the server has not answered for {seconds:g} s; the connection was closed"
                )
            wanted = gen.send(ready)
    except StopIteration as ended:
        return ended.value
