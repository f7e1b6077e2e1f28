"""The attempts that a worker has in hand, from the claim to the written outcome.

A slot is free again when its handler has ended, not when the outcome is written: so the next jobs are claimed
while the last ones are being finished. Unwritten outcomes are bounded all the same, by as many again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from docyard_queue.attempt import Attempt
from docyard_queue.errors import LeaseLost, UnknownKind
from docyard_queue.outage import DATABASE_ERRORS
from docyard_queue.outcomes import Cancel, Done, Failure, Snooze
from docyard_workers.process.execution import execute
from docyard_workers.process.finishing import Finisher
from docyard_workers.process.isolation.apart import Apart, Unready
from docyard_workers.process.solitude import Solitude
from docyard_workers.process.sync_connections import SyncConnections
from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_queue.registry import HandlerSpec, Registry
    from docyard_schema.database import Database
    from docyard_workers.process.finishing import Written
    from docyard_workers.process.isolation.reference import Recipe

_log = structlog.get_logger("docyard.worker")

# What a stop waits, after the running jobs' time is over, for them to end and be given back.
_RELEASE_SECONDS = 5.0
_CANCEL_AGAIN_SECONDS = 2.0
# How many times its concurrency a worker holds of jobs that wait to run alone.
_CROWD = 4
# A retry that is due sooner wakes the worker; a later one is found by polling.
_LONGEST_TIMER_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Running:
    attempt: Attempt
    task: asyncio.Task[None]
    # Only the handler is ever cancelled, never the writing of its outcome.
    in_handler: bool = True
    cancelled_at: float = float("-inf")


class Attempts:
    """Runs attempts side by side, at most ``concurrency``; ``wake`` is called when a slot is free again.
    ``ended`` is told of every job whose outcome was written.

    ``completed`` counts jobs that succeeded, ``failed`` those that became dead letters.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        engine: Engine,
        *,
        concurrency: int,
        wake: Callable[[], None],
        ended: Callable[[Job], None],
        recipe: Recipe | None = None,
    ) -> None:
        self.completed = self.failed = 0
        self._database = database
        self._registry = registry
        self._engine = engine
        self._concurrency = concurrency
        self._wake = wake
        self._ended = ended
        self._in_handlers = 0
        self._finisher = Finisher(engine, self._completions_written)
        self._threads = Threads(wake)
        self._connections = SyncConnections(database, concurrency)
        self._apart = Apart(database, recipe)
        self._solitude = Solitude(lambda: self._in_handlers)
        # By id and lease: a job whose lease was lost may come again while its older attempt still runs.
        self._running: dict[tuple[int, int], _Running] = {}

    @property
    def free_slots(self) -> int:
        """How many more may run. A thread that outlived its attempt keeps its slot."""
        if self._solitude.wanted:
            return 0
        free = self._concurrency - self._in_handlers - self._threads.overrunning
        free = min(free, 2 * self._concurrency - len(self._running))
        if self._apart.waiting:
            # A crowd that waits to run alone must not keep all others waiting; nor may one worker hoard it.
            free += min(self._apart.waiting, _CROWD * self._concurrency)
        return min(free, self._concurrency)

    @property
    def held(self) -> Collection[tuple[int, int]]:
        """Job id and lease of all that runs."""
        return self._running.keys()

    def begin(self, job: Job) -> None:
        """Start an attempt in the background."""
        attempt = Attempt(job, self._database, self._connections.connection)
        self._in_handlers += 1
        task = asyncio.create_task(self._run(attempt))
        self._running[job.id, job.lease] = _Running(attempt, task)

    def cancel(self, job_ids: Collection[int]) -> None:
        """End the handlers of these jobs; those that do not run here are passed over."""
        for running in self._running.values():
            if running.attempt.job.id in job_ids:
                running.attempt.cancel_requested = True
                # Every notice names all jobs that are to end. A second cancel that meets the first on its way
                # through psycopg costs the connection, so it waits; one that was lost is asked for again.
                now = asyncio.get_running_loop().time()
                if running.in_handler and now - running.cancelled_at >= _CANCEL_AGAIN_SECONDS:
                    running.cancelled_at = now
                    running.task.cancel()

    async def end(self, seconds: float) -> None:
        """Wait so long for what runs, then give the rest back."""
        if not self._running:
            return
        _log.info("worker.stopping", running=len(self._running), seconds=seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._settled()
        except TimeoutError:
            pass
        finally:
            # Also when whoever waits is cancelled itself.
            await self._give_back()

    async def _settled(self) -> None:
        while self._running:
            # A finished handler's task has ended before its completion is written.
            await asyncio.wait({running.task for running in self._running.values()})
            await self._finisher.flushed()

    async def close(self) -> None:
        """Let go of what the attempts shared."""
        await self._finisher.close()
        await self._apart.close()
        await asyncio.to_thread(self._connections.close)

    async def _give_back(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RELEASE_SECONDS
        while self._running and loop.time() < deadline:
            for running in self._running.values():
                if running.in_handler:
                    # Again and again: a cancel may be lost (see ending.py).
                    running.task.cancel()
            try:
                async with asyncio.timeout(0.2):
                    await self._settled()
            except TimeoutError:
                continue
        for job_id, lease in [*self._running]:
            # No database, or a handler that does not let itself be cancelled. Rescue finds the job.
            running = self._running[job_id, lease]
            _log.warning("job.abandoned", job_id=job_id, kind=running.attempt.job.kind, lease=lease)
            running.task.cancel()

    async def _run(self, attempt: Attempt) -> None:
        outcome = await self._outcome(attempt)
        if isinstance(outcome, Done) and not attempt.committed:
            # Nobody waits for it: it is written with others, and told of by _completions_written.
            self._finisher.complete(attempt.job, outcome.result)
            return
        job = attempt.job
        try:
            if not await self._settle(attempt, outcome):
                raise LeaseLost(job.id, job.lease)
            self._ended(job)
        except LeaseLost:
            if not await self._child_completed(attempt, outcome):
                _log.warning("job.lease_lost", job_id=job.id, kind=job.kind, lease=job.lease)
        finally:
            del self._running[job.id, job.lease]
            self._wake()

    async def _outcome(self, attempt: Attempt) -> Outcome | str | None:
        """What became of the attempt; text is the reason why it does not count, None a lost lease."""
        job = attempt.job
        try:
            spec = self._registry[job.kind]
            if job.alone or spec.isolated or self._solitude.wanted:
                return await self._execute_apart(spec, attempt)
            return await execute(spec, attempt, self._threads)
        except LeaseLost:
            return None
        except UnknownKind:
            return "this worker does not know its kind"
        except asyncio.CancelledError:
            if attempt.cancel_requested:
                return Cancel("cancelled while it ran")
            return "the worker was stopped"
        finally:
            self._running[job.id, job.lease].in_handler = False
            self._in_handlers -= 1
            if self._solitude.wanted:
                self._solitude.handler_ended()
            self._wake()

    async def _execute_apart(self, spec: HandlerSpec, attempt: Attempt) -> Outcome:
        if self._solitude.wanted:
            await self._solitude.over()
        if not (attempt.job.alone or spec.isolated):
            return await execute(spec, attempt, self._threads)
        try:
            return await self._apart.execute(spec, attempt)
        except Unready as reason:
            _log.info("job.secluded", job_id=attempt.job.id, kind=spec.kind, reason=str(reason))
        # Then here, with nothing beside it: should the process end, it was this one.
        async with self._solitude.alone():
            if not await self._engine.begin_alone(attempt.job):
                raise LeaseLost(attempt.job.id, attempt.job.lease)
            return await execute(spec, attempt, self._threads)

    async def _child_completed(self, attempt: Attempt, outcome: Outcome | str | None) -> bool:
        """Whether a lease is lost only because a child committed, and could not say so any more."""
        job = attempt.job
        if outcome is None or not (job.alone or self._registry[job.kind].isolated):
            return False
        try:
            if not await self._engine.is_completed(job):
                return False
        except DATABASE_ERRORS:
            return False
        attempt.committed = True
        await self._settle(attempt, outcome)
        self._ended(job)
        return True

    def _completions_written(self, batch: Sequence[tuple[Job, Written]]) -> None:
        for job, written in batch:
            del self._running[job.id, job.lease]
            if written == "lost":
                _log.warning("job.lease_lost", job_id=job.id, kind=job.kind, lease=job.lease)
                continue
            self.completed += written == "written"
            self._ended(job)
        self._wake()

    async def _settle(self, attempt: Attempt, outcome: Outcome | str | None) -> bool:
        """Write the outcome and tell of it; False when the lease was lost."""
        job = attempt.job
        if outcome is None:
            return False
        if attempt.committed:
            self.completed += 1
            if isinstance(outcome, Failure):
                # Its effects are in; running it again would double them.
                _log.error("job.failed_after_commit", job_id=job.id, kind=job.kind, error=outcome.message)
            return True
        if isinstance(outcome, str):
            released = await self._finisher.release(job, outcome)
            if released:
                _log.info("job.released", job_id=job.id, kind=job.kind, reason=outcome)
            return released
        written = await self._finisher.settle(job, outcome)
        if written == "written":
            self._tell(job, outcome)
        return written != "lost"

    def _tell(self, job: Job, outcome: Outcome) -> None:
        fields = {"job_id": job.id, "kind": job.kind, "attempt": job.attempt}
        match outcome:
            case Failure(retry_in=None):
                self.failed += 1
                _log.error("job.died", error=outcome.message, error_class=outcome.error_class, **fields)
            case Failure():
                delay = outcome.retry_in
                self._wake_in(delay)
                seconds = round(delay.total_seconds(), 1) if delay else 0
                _log.warning("job.failed", error=outcome.message, retry_in_s=seconds, **fields)
            case Snooze():
                self._wake_in(outcome.delay)
                _log.info(
                    "job.snoozed", delay_s=outcome.delay.total_seconds(), reason=outcome.reason, **fields
                )
            case Cancel():
                _log.info("job.cancelled", reason=outcome.reason, **fields)

    def _wake_in(self, delay: timedelta | None) -> None:
        seconds = delay.total_seconds() if delay else 0
        if 0 < seconds <= _LONGEST_TIMER_SECONDS:
            asyncio.get_running_loop().call_later(seconds + 0.001, self._wake)
