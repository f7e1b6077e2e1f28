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
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.pq import ConnStatus
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from psycopg.pq.abc import PGconn

# The process id of a session at the server, and when (by time.monotonic) its connection was given up here.
Abandoned: TypeAlias = tuple[int, float]


class PatientConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when the server says nothing for ``answer_seconds`` (None: no limit).

    The statement fails with :class:`psycopg.OperationalError` then. Whether the server did what it was
    asked is not known, as with any connection that breaks. When the connection ends amid a statement, for
    this reason or because whoever waited was cancelled, the session may stand at the server for hours and
    hold locks: it is written down in ``abandoned``, for whoever can end it there.
    """

    answer_seconds: float | None = None
    abandoned: list[Abandoned] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._server_pid = self.pgconn.backend_pid

    @override
    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.answer_seconds is None:
            return await super().wait(gen, *arguments, **options)
        try:
            heard = _heard(gen, self.pgconn, self.answer_seconds)
            return await super().wait(heard, *arguments, **options)
        except BaseException:
            _write_down(self._server_pid, self.pgconn, self.abandoned)
            raise


class PatientSyncConnection(psycopg.Connection[Any]):
    """:class:`PatientConnection` for threads."""

    answer_seconds: float | None = None
    abandoned: list[Abandoned] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._server_pid = self.pgconn.backend_pid

    @override
    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.answer_seconds is None:
            return super().wait(gen, *arguments, **options)
        try:
            heard = _heard(gen, self.pgconn, self.answer_seconds)
            return super().wait(heard, *arguments, **options)
        except BaseException:
            _write_down(self._server_pid, self.pgconn, self.abandoned)
            raise


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
    wait, pgconn, server_pid = connection.wait, connection.pgconn, connection.pgconn.backend_pid

    async def patiently(gen: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return await wait(_heard(gen, pgconn, seconds), *arguments, **options)
        except BaseException:
            _write_down(server_pid, pgconn, abandoned)
            raise

    taught: Any = connection
    taught.wait = patiently
    try:
        yield
    finally:
        del taught.wait


def _heard(gen: Generator[Any, Any, Any], pgconn: PGconn, seconds: float) -> Generator[Any, Any, Any]:
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
            elif time.monotonic() - silent_since > seconds:
                gen.close()
                pgconn.finish()
                raise psycopg.OperationalError(
                    f"the server has not answered for {seconds:g} s; the connection was closed"
                )
            wanted = gen.send(ready)
    except StopIteration as ended:
        return ended.value


def _write_down(server_pid: int, pgconn: PGconn, abandoned: list[Abandoned] | None) -> None:
    if abandoned is not None and pgconn.status == ConnStatus.BAD:
        abandoned.append((server_pid, time.monotonic()))
