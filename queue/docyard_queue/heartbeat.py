"""Says that a worker lives: in a thread and on a connection of its own.

Apart from the event loop and the pool, so that neither a busy loop nor an exhausted pool makes a healthy
worker look dead; and until the last job has ended, also while the worker stops.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from docyard_queue.rescue import process_scope, statements
from docyard_schema.connection import connection_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docyard_schema.database import Database

_log = structlog.get_logger("docyard.queue")


class Heartbeat:
    """The heartbeat of one worker; :meth:`start` registers it and gives its ``worker_id``."""

    def __init__(
        self,
        database: Database,
        *,
        queues: Sequence[str] | None,
        seconds: float,
        on_cancel: Callable[[int], None],
    ) -> None:
        self.worker_id = 0
        self.scope = process_scope()
        self._database = database
        self._seconds = seconds
        self._on_cancel = on_cancel
        self._queues = None if queues is None else list(queues)
        self._state = "running"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docyard-heartbeat", daemon=True)

    def start(self) -> None:
        """Register the worker and begin to beat. Blocks for one round trip; raises if that fails."""
        with self._connect() as connection:
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
        while not self._ended.wait(self._seconds if connection else random.uniform(0, 1)):  # noqa: S311
            try:
                connection = connection or self._connect()
                self._beat(connection)
            except psycopg.Error as error:
                _log.warning("heartbeat.missed", worker_id=self.worker_id, error=str(error).strip())
                if connection is not None:
                    connection.close()
                connection = None
        try:
            connection = connection or self._connect()
            connection.execute(self._sql(statements.unregister), {"worker": self.worker_id})
            connection.close()
        except psycopg.Error as error:
            # The row stays and is taken for dead after three beats; it holds no jobs.
            _log.warning("heartbeat.missed", worker_id=self.worker_id, error=str(error).strip())

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        values = {"worker": self.worker_id, "state": self._state}
        row = connection.execute(self._sql(statements.beat), values).fetchone()
        known, cancelled = row if row is not None else (False, [])
        if not known:
            connection.execute(self._sql(statements.come_back), self._identity() | {"worker": self.worker_id})
        for job_id in cancelled:
            self._on_cancel(job_id)

    def _connect(self) -> psycopg.Connection[Any]:
        direct = self._database.settings.direct_database_url
        url = direct.get_secret_value() if direct is not None else self._database.url
        arguments = connection_arguments(url or "", self._database.settings, direct=direct is not None)
        # A beat that hangs is a beat missed: better to close the connection and try another.
        arguments["connect_timeout"] = max(2, round(self._seconds))
        return psycopg.Connection.connect(**arguments)

    def _identity(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "scope": self.scope,
            "queues": self._queues,
            "heartbeat": self._seconds,
        }

    def _sql(self, statement: str) -> bytes:
        return self._database.sql(statement)
