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
from docyard_queue.outcomes import Cancel, Done, Failure
from docyard_workers.process.batch_attempts import BatchAttempts
from docyard_workers.process.execution import execute
from docyard_workers.process.finishing import Finisher
from docyard_workers.process.isolation.apart import Apart, Unready
from docyard_workers.process.solitude import Solitude
from docyard_workers.process.sync_connections import SyncConnections
from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_queue.registry import HandlerSpec, Registry
    from docyard_schema.database import Database
    from docyard_workers.process.finishing import Written
    from docyard_workers.process.isolation.reference import Recipe
    from docyard_workers.process.tally import Tally

_log = structlog.get_logger("docyard.worker")

# What a stop waits, after the running jobs' time is over, for them to end and be given back.
_RELEASE_SECONDS = 5.0
_CANCEL_AGAIN_SECONDS = 2.0
# How many times its concurrency a worker holds of jobs that wait to run alone.
_CROWD = 4


@dataclass(slots=True, eq=False)
class _Running:
    attempt: Attempt
    task: asyncio.Task[None]
    # Only the handler is ever cancelled, never the writing of its outcome.
    in_handler: bool = True
    cancelled_at: float = float("-inf")


class Attempts:
    """Runs attempts side by side, at most ``concurrency``; ``wake`` is called when a slot is free again.
    ``ended`` is told of every job whose outcome was written. ``batches`` are those of batch handlers, which
    take no slot.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        engine: Engine,
        *,
        concurrency: int,
        tally: Tally,
        wake: Callable[[], None],
        ended: Callable[[Job], None],
        recipe: Recipe | None = None,
    ) -> None:
        self._database = database
        self._registry = registry
        self._engine = engine
        self._concurrency = concurrency
        self._wake = wake
        self._ended = ended
        self._tally = tally
        self._in_handlers = 0
        self._finisher = Finisher(engine, self._completions_written)
        self._threads = Threads(wake)
        self._connections = SyncConnections(database, concurrency)
        self._apart = Apart(database, recipe)
        self.batches = BatchAttempts(
            database,
            engine,
            tally=tally,
            wake=wake,
            ended=ended,
            connections=self._connections,
            apart=self._apart,
        )
        self._solitude = Solitude(lambda: self._in_handlers + self.batches.calls)
        self.batches.beside(self._solitude)
        # By id and lease: a job whose lease was lost may come again while its older attempt still runs.
        self._running: dict[tuple[int, int], _Running] = {}

    @property
    def free_slots(self) -> int:
        """How many more may run. A thread that outlived its attempt keeps its slot."""
        if self.secluded:
            return 0
        free = self._concurrency - self._in_handlers - self._threads.overrunning
        free = min(free, 2 * self._concurrency - len(self._running))
        if self._apart.waiting:
            # A crowd that waits to run alone must not keep all others waiting; nor may one worker hoard it.
            free += min(self._apart.waiting, _CROWD * self._concurrency)
        return min(free, self._concurrency)

    @property
    def secluded(self) -> bool:
        """Whether nothing may begin, because one attempt has the process for itself."""
        return self._solitude.wanted

    @property
    def held(self) -> Collection[tuple[int, int]]:
        """Job id and lease of all that runs."""
        return [*self._running.keys(), *self.batches.held] if self.batches.held else self._running.keys()

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
        self.batches.cancel(job_ids)

    async def end(self, seconds: float) -> None:
        """Wait so long for what runs, then give the rest back."""
        if not self.held:
            return
        _log.info("worker.stopping", running=len(self.held), seconds=seconds)
        await asyncio.gather(self._end(seconds), self.batches.end(seconds))

    async def _end(self, seconds: float) -> None:
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
        await self.batches.close()
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
            self._tally.abandoned(running.attempt.job)
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
                self._tally.lost(job)
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
                self._tally.lost(job)
                continue
            self._tally.completed += written == "written"
            self._ended(job)
        self._wake()

    async def _settle(self, attempt: Attempt, outcome: Outcome | str | None) -> bool:
        """Write the outcome and tell of it; False when the lease was lost."""
        job = attempt.job
        if outcome is None:
            return False
        if attempt.committed:
            self._tally.completed += 1
            if isinstance(outcome, Failure):
                self._tally.failed_after_commit(job, outcome.message)
            return True
        if isinstance(outcome, str):
            released = await self._finisher.release(job, outcome)
            if released:
                self._tally.released(job, outcome)
            return released
        written = await self._finisher.settle(job, outcome)
        if written == "written":
            self._tally.written(job, outcome)
        return written != "lost"
