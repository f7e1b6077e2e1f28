"""The worker: a loop that claims as many jobs as it has free slots, and never more."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from docyard_queue.attempt import Attempt
from docyard_queue.engine import PostgresEngine
from docyard_queue.errors import LeaseLost
from docyard_queue.heartbeat import Heartbeat
from docyard_queue.inspection import Inspection
from docyard_queue.listener import listen
from docyard_queue.outcomes import Cancel, Done, Failure, Snooze
from docyard_schema.connection import connection_arguments
from docyard_schema.errors import ConfigError, DatabaseError
from docyard_workers.process.execution import execute
from docyard_workers.process.finishing import Finisher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_queue.registry import Registry
    from docyard_schema.database import Database

_log = structlog.get_logger("docyard.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works.

    ``queues`` of None serves all. ``poll_seconds`` is the longest sleep when no notification comes;
    ``shutdown_seconds`` is how long a stop waits for running jobs before it gives them back.
    """

    queues: Sequence[str] | None = None
    concurrency: int = 10
    heartbeat_seconds: float = 5
    shutdown_seconds: float = 30
    poll_seconds: float = 5

    def __post_init__(self) -> None:
        for name in ("concurrency", "heartbeat_seconds", "poll_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"A worker's {name} is above zero, got {getattr(self, name)}.")


class Worker:
    """Runs the jobs of a registry::

        async with Worker(database, registry) as worker:
            await worker.run()      # until stop() is called, or
            await worker.drain()    # until nothing is left to do

    Entered it is registered and beats; left it has given back or finished every job. A second stop is safe.
    """

    def __init__(self, database: Database, registry: Registry, options: WorkerOptions | None = None) -> None:
        self.database = database
        self.registry = registry
        self.options = options or WorkerOptions()
        self.completed = self.failed = 0
        self._engine = PostgresEngine(database)
        self._finisher = Finisher(self._engine)
        self._kinds = {spec.kind: spec.max_attempts for spec in registry}
        self._running: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._background: list[asyncio.Task[None]] = []
        self._sync_pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._heartbeat: Heartbeat

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def cancel_from_thread(job_id: int) -> None:
            loop.call_soon_threadsafe(self._cancel, job_id)

        self._heartbeat = Heartbeat(
            self.database,
            queues=self.options.queues,
            seconds=self.options.heartbeat_seconds,
            on_cancel=cancel_from_thread,
        )
        await asyncio.to_thread(self._heartbeat.start)
        await self._rescue()
        listening = listen(self.database, on_job=self._wake.set, on_cancel=self._cancel)
        self._background = [asyncio.create_task(listening), asyncio.create_task(self._keep_rescuing())]
        _log.info(
            "worker.started",
            worker_id=self._heartbeat.worker_id,
            queues=self.options.queues or "all",
            concurrency=self.options.concurrency,
            kinds=sorted(self._kinds),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        self._heartbeat.stopping()
        await self._finish_running()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.to_thread(self._heartbeat.stop)
        if self._sync_pool is not None:
            await asyncio.to_thread(self._sync_pool.close)
        _log.info("worker.stopped", worker_id=self._heartbeat.worker_id, completed=self.completed)

    def stop(self) -> None:
        """Claim no more; ``run`` and ``drain`` return, and leaving the context waits for running jobs."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until :meth:`stop` is called."""
        while not self._stopping:
            self._wake.clear()
            if not await self._claim():
                await self._sleep(self.options.poll_seconds * random.uniform(0.8, 1))  # noqa: S311

    async def drain(self) -> None:
        """Work until no job of the registry can run, runs, or waits for another attempt; or until stop."""
        inspection = Inspection(self.database)
        while not self._stopping:
            self._wake.clear()
            if await self._claim():
                continue
            if not self._running:
                left = await inspection.unfinished(list(self._kinds), self.options.queues)
                if not left:
                    return
            await self._sleep(min(0.5, self.options.poll_seconds))

    async def _claim(self) -> bool:
        """Fill the free slots; True when it is worth asking again at once."""
        slots = self.options.concurrency - len(self._running)
        if slots <= 0:
            return False
        try:
            jobs = await self._engine.claim(
                self._heartbeat.worker_id, slots=slots, kinds=self._kinds, queues=self.options.queues
            )
        except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError) as error:
            _log.warning("claim.failed", error=str(error).splitlines()[0])
            await asyncio.sleep(random.uniform(0.1, 1))  # noqa: S311 - jitter
            return False
        for job in jobs:
            attempt = Attempt(job, self.database, self._sync_connection)
            self._running[job.id] = (attempt, asyncio.create_task(self._attempt(attempt)))
        return len(jobs) == slots

    async def _attempt(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            await self._settle(attempt, await execute(self.registry[job.kind], attempt))
        except LeaseLost:
            _log.warning("job.lease_lost", job_id=job.id, kind=job.kind, lease=job.lease)
        except asyncio.CancelledError:
            if attempt.committed:
                self.completed += 1
            elif attempt.cancel_requested:
                await self._finisher.settle(job, Cancel("cancelled while it ran"))
                _log.info("job.cancelled", job_id=job.id, kind=job.kind)
            else:
                await self._finisher.release(job)
                _log.info("job.released", job_id=job.id, kind=job.kind)
        finally:
            self._running.pop(job.id, None)
            self._wake.set()

    async def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        job = attempt.job
        if attempt.committed:
            self.completed += 1
            if isinstance(outcome, Failure):
                # Its effects are in; running it again would double them.
                _log.error("job.failed_after_commit", job_id=job.id, kind=job.kind, error=outcome.message)
            return
        if isinstance(outcome, Done):
            if not await self._finisher.complete(job, outcome.result):
                raise LeaseLost(job.id, job.lease)
            self.completed += 1
            return
        if not await self._finisher.settle(job, outcome):
            raise LeaseLost(job.id, job.lease)
        self._report(job, outcome)

    def _report(self, job: Job, outcome: Outcome) -> None:
        fields = {"job_id": job.id, "kind": job.kind, "attempt": job.attempt}
        match outcome:
            case Failure(retry_in=None):
                self.failed += 1
                _log.error("job.died", error=outcome.message, error_class=outcome.error_class, **fields)
            case Failure():
                seconds = outcome.retry_in.total_seconds() if outcome.retry_in else 0
                _log.warning("job.failed", error=outcome.message, retry_in_s=round(seconds, 1), **fields)
            case Snooze():
                _log.info("job.snoozed", delay_s=outcome.delay.total_seconds(), **fields)
            case Cancel():
                _log.info("job.cancelled", reason=outcome.reason, **fields)

    def _cancel(self, job_id: int) -> None:
        if found := self._running.get(job_id):
            attempt, task = found
            attempt.cancel_requested = True
            task.cancel()

    async def _finish_running(self) -> None:
        tasks = [task for _, task in self._running.values()]
        if not tasks:
            return
        _log.info("worker.stopping", running=len(tasks), seconds=self.options.shutdown_seconds)
        _, late = await asyncio.wait(tasks, timeout=self.options.shutdown_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.gather(*late, return_exceptions=True)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _keep_rescuing(self) -> None:
        while True:
            await asyncio.sleep(self.options.heartbeat_seconds * random.uniform(0.8, 1.2))  # noqa: S311
            await self._rescue()

    async def _rescue(self) -> None:
        try:
            rescued = await self._engine.rescue(self._heartbeat.worker_id, scope=self._heartbeat.scope)
        except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError) as error:
            _log.warning("rescue.failed", error=str(error).splitlines()[0])
            return
        for job in rescued:
            event = "job.died" if job.dead else "job.rescued"
            _log.warning(event, job_id=job.job_id, kind=job.kind, attempts=job.attempts, error="crashed")
        if rescued:
            self._wake.set()

    @contextmanager
    def _sync_connection(self) -> Iterator[psycopg.Connection[Any]]:
        if self._sync_pool is None:
            arguments = connection_arguments(self.database.url or "", self.database.settings)
            self._sync_pool = ConnectionPool(
                kwargs=arguments,
                min_size=0,
                max_size=self.options.concurrency,
                open=True,
                name="docyard-sync",
            )
        with self._sync_pool.connection() as connection:
            yield connection
