"""Says that a worker lives: in a thread and on a connection of its own.

Apart from the event loop and the pool, so that neither a busy loop nor an exhausted pool makes a healthy
worker look dead; and until the last job has ended, also while the worker stops.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from docyard_queue.outage import brief
from docyard_queue.rescue import process_scope, statements
from docyard_schema.answers import PatientSyncConnection
from docyard_schema.connection import connection_arguments, session_name
from docyard_schema.connection_failure import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from docyard_schema.database import Database

_log = structlog.get_logger("docyard.queue")

# It goes on while the machine sleeps, where there is such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Heartbeat:
    """The heartbeat of one worker; :meth:`start` registers it and gives its ``worker_id``.

    ``on_cancel`` is called, in the heartbeat's thread, with the jobs of this worker that somebody wants
    cancelled: the fallback for a lost notification. ``kinds`` are those that the worker has handlers for;
    None does not say.
    """

    def __init__(
        self,
        database: Database,
        *,
        queues: Sequence[str] | None,
        kinds: Iterable[str] | None = None,
        seconds: float,
        on_cancel: Callable[[list[int]], None],
    ) -> None:
        self.worker_id = 0
        self.scope = process_scope()
        self._database = database
        self._seconds = seconds
        self._on_cancel = on_cancel
        self._queues = None if queues is None else list(queues)
        self._kinds = None if kinds is None else sorted(kinds)
        self._state = "running"
        self._unsteady_until = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docyard-heartbeat", daemon=True)

    @property
    def steady(self) -> bool:
        """Whether no beat was missed within the last three; else others' silence says nothing of them."""
        return _now() >= self._unsteady_until

    def start(self) -> None:
        """Register the worker and begin to beat. Blocks for one round trip.

        Raises :class:`DatabaseUnavailable` when there is no connection to be had.
        """
        try:
            opened = self._connect()
        except psycopg.OperationalError as error:
            raise unavailable(error, self._url) from error
        with closing(opened) as connection:
            row = connection.execute(self._sql(statements.register), self._identity()).fetchone()
            assert row is not None  # noqa: S101 - INSERT … RETURNING gives a row
            self.worker_id = row[0]
        self._thread.start()

    def stopping(self) -> None:
        """Show from the next beat on that the worker takes no more jobs."""
        self._state = "stopping"

    def stop(self) -> None:
        """End the beats and take the worker's row away. Blocks for two seconds at most."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        last = _now()
        # A beat that was missed is made up for soon, but not by all workers in the same moment.
        while not self._ended.wait(self._seconds if connection else self._seconds * random.uniform(0, 0.2)):  # noqa: S311
            try:
                connection = connection or self._connect()
                self._beat(connection)
            except Exception as error:  # noqa: BLE001 - whatever it was, the worker lives and has to say so
                _log.warning("heartbeat.missed", worker_id=self.worker_id, error=brief(error))
                self._unsteady_until = _now() + 3 * self._seconds
                _close(connection)
                connection = None
            if _now() - last > 2 * self._seconds + 1:
                # Stopped, asleep, or starved of the processor: who knows who else was.
                self._unsteady_until = _now() + 3 * self._seconds
            last = _now()
        try:
            connection = connection or self._connect()
            connection.execute(self._sql(statements.unregister), {"worker": self.worker_id})
        except psycopg.Error as error:
            # The row stays and is taken for dead after three beats; it holds no jobs.
            _log.warning("heartbeat.missed", worker_id=self.worker_id, error=brief(error))
        _close(connection)

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        values = {"worker": self.worker_id, "state": self._state}
        row = connection.execute(self._sql(statements.beat), values).fetchone()
        known, cancelled = row if row is not None else (False, [])
        if not known:
            connection.execute(self._sql(statements.come_back), self._identity() | {"worker": self.worker_id})
        if cancelled:
            self._on_cancel(cancelled)

    @property
    def _url(self) -> str:
        direct = self._database.settings.direct_database_url
        return self._database.url if direct is None else direct.get_secret_value()

    def _connect(self) -> psycopg.Connection[Any]:
        settings = self._database.settings
        direct = settings.direct_database_url is not None
        arguments = connection_arguments(self._url, settings, direct=direct)
        # A beat that hangs is a beat missed: better to close the connection and try another.
        arguments["connect_timeout"] = max(2, round(self._seconds))
        arguments["tcp_user_timeout"] = max(2000, round(self._seconds * 1000))
        if direct or settings.pooler != "transaction":
            limit = f"-c statement_timeout={max(1000, round(self._seconds * 1000))}"
            # Of two values the server takes the later one.
            arguments["options"] = f"{arguments.get('options', '')} {limit}".strip()
        connection = PatientSyncConnection.connect(**arguments)
        # After the server's own limit, where that can be heard, and before three beats are missed.
        connection.answer_seconds = max(1.0, self._seconds) + 1
        return connection

    @property
    def _session(self) -> str:
        return str(connection_arguments(self._database.url, self._database.settings)["application_name"])

    def _identity(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "scope": self.scope,
            # A name that the connection string gives may be that of many processes.
            "session": session_name() if self._session == session_name() else None,
            "queues": self._queues,
            "kinds": self._kinds,
            "heartbeat": self._seconds,
        }

    def _sql(self, statement: str) -> bytes:
        return self._database.sql(statement)


def _now() -> float:
    return time.clock_gettime(_CLOCK)


def _close(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        connection.close()
