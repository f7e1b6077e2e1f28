"""A worker without a loop: registered, runs attempts one by one, and can vanish as a killed one does."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import psycopg

from docyard.testing.crashing import WatchedAttempt, cut_off
from docyard.testing.performed import Performed, performed
from docyard_queue import LeaseLost, PostgresEngine
from docyard_queue.outcomes import Done, Failure, Snooze
from docyard_queue.rescue import process_scope
from docyard_queue.rescue import statements as worker_statements
from docyard_schema.connection import connection_arguments
from docyard_workers.process.batch_call import BatchCall
from docyard_workers.process.execution import execute
from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from docyard.testing.crashing import Crash
    from docyard_queue import Attempt, HandlerSpec, Job
    from docyard_schema import Database
    from docyard_workers.process.batch_call import Ending

# It never beats, and is not silent either: a clock that a test sets may be moved by years.
_HEARTBEAT_SECONDS = 100 * 365 * 86400.0


class InlineWorker:
    """A worker in the caller's task. Left, it has signed off; what it holds then is for rescue."""

    def __init__(self, database: Database, *, sync_connections: bool = True) -> None:
        self.id = 0
        self.engine = PostgresEngine(database)
        self._database = database
        self._threads = Threads(lambda: None)
        self._sync: Callable[[], AbstractContextManager[psycopg.Connection[Any]]] | None = (
            self._sync_connection if sync_connections else None
        )

    async def __aenter__(self) -> Self:
        identity = {
            "host": socket.gethostname(), "pid": os.getpid(), "scope": process_scope(), "session": None,
            "queues": [], "kinds": [], "heartbeat": _HEARTBEAT_SECONDS,
        }  # fmt: skip
        async with self._database.connection() as connection:
            cursor = await connection.execute(self._database.sql(worker_statements.register), identity)
            [self.id] = await cursor.fetchone() or [0]
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._database.connection() as connection:
            await connection.execute(self._database.sql(worker_statements.unregister), {"worker": self.id})

    async def attempt(self, spec: HandlerSpec, job: Job, crash: Crash | None = None) -> Performed:
        """Run a claimed job once and write what became of it, as a worker does.

        After a crash nothing is written; leave this worker then, and the job is nobody's.
        """
        if spec.batch is not None:
            [done] = await self.batch(spec, [job], crash)
            return done
        attempt = WatchedAttempt(job, self._database, self._sync)
        if crash is not None and crash.is_for(job):
            attempt.crash = crash
            if crash.point == "claimed":
                crash.happened = True
                return Performed(job=job, outcome="crashed")
        spec, raised = _recorded(spec, attempt.crash)
        try:
            outcome = await execute(spec, attempt, self._threads)
        except LeaseLost:
            return Performed(job=job, outcome="lost")
        if attempt.crash is not None and _is_killed_now(attempt.crash):
            return Performed(job=job, outcome="crashed")
        error = raised[-1] if raised else None
        if attempt.committed:
            # What it raised afterwards changes nothing: the job is done.
            return replace(performed(job, Done(attempt.result), None), error=error)
        kept = await self.engine.settle(job, outcome)
        return performed(job, outcome, error) if kept else Performed(job=job, outcome="lost", error=error)

    async def batch(
        self, spec: HandlerSpec, jobs: Sequence[Job], crash: Crash | None = None
    ) -> list[Performed]:
        """Run claimed jobs in one call of their batch handler, and write what became of each."""
        attempts = [WatchedAttempt(job, self._database, self._sync) for job in jobs]
        if crash is not None and any(crash.is_for(job) for job in jobs):
            if crash.point == "claimed":
                crash.happened = True
                return [Performed(job=job, outcome="crashed") for job in jobs]
            for attempt in attempts:
                attempt.crash = crash
        else:
            crash = None
        spec, raised = _recorded(spec, crash)
        endings: dict[Attempt, Ending] = {}
        call = BatchCall(spec, attempts, endings.__setitem__)
        await call.run(self._threads)
        # What threads have said stands in the loop's line.
        await asyncio.sleep(0)
        if crash is not None and _is_killed_now(crash):
            return [Performed(job=job, outcome="crashed") for job in jobs]
        error = raised[-1] if raised else None
        return [await self._written(attempt, endings[attempt], error) for attempt in attempts]

    async def _written(
        self, attempt: WatchedAttempt, ending: Ending, error: BaseException | None
    ) -> Performed:
        job = attempt.job
        if attempt.committed:
            return replace(performed(job, Done(attempt.result), None), error=error)
        if ending is None:
            return Performed(job=job, outcome="lost")
        if isinstance(ending, str):
            await self.engine.release(job, ending)
            return Performed(job=job, outcome="snoozed", delay=timedelta(0), reason=ending, error=error)
        raised = error if isinstance(ending, (Failure, Snooze)) else None
        kept = await self.engine.settle(job, ending)
        return performed(job, ending, raised) if kept else Performed(job=job, outcome="lost", error=raised)

    @contextmanager
    def _sync_connection(self) -> Iterator[psycopg.Connection[Any]]:
        arguments = connection_arguments(self._database.url, self._database.settings)
        with psycopg.connect(**arguments) as connection:
            yield connection


def _is_killed_now(crash: Crash) -> bool:
    """Whether the attempt that has just ended was killed, at the latest at its end."""
    if crash.point == "before_finish" or (crash.point == "in_handler" and crash.wait is None):
        crash.happened = True
    return crash.happened


def _recorded(spec: HandlerSpec, crash: Crash | None) -> tuple[HandlerSpec, list[BaseException]]:
    """The same handler, and a list of what it will have raised."""
    raised: list[BaseException] = []
    run = spec.run
    if spec.is_async:
        cut = cut_off(run, crash) if crash is not None and crash.point == "in_handler" else run

        async def watched(attempt: Any, payload: Any) -> Any:
            try:
                return await cut(attempt, payload)
            except BaseException as error:
                raised.append(error)
                raise

        return replace(spec, run=watched), raised

    def watched_sync(attempt: Any, payload: Any) -> Any:
        try:
            return run(attempt, payload)
        except BaseException as error:
            raised.append(error)
            raise

    return replace(spec, run=watched_sync), raised
