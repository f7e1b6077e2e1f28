"""The attempts of batch handlers that a worker has in hand: gathered, called together, ended one by one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from docyard_queue.attempt import Attempt
from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_queue.outcomes import Cancel, Done, Snooze
from docyard_workers.process.batch_call import BatchCall
from docyard_workers.process.ending import end_tasks
from docyard_workers.process.finishing import Finisher
from docyard_workers.process.isolation.apart import Unready
from docyard_workers.process.isolation.group import Group
from docyard_workers.process.returning import Returner

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_schema.database import Database
    from docyard_workers.process.batch_call import Ending
    from docyard_workers.process.batch_room import BatchRoom
    from docyard_workers.process.finishing import Written
    from docyard_workers.process.isolation.apart import Apart
    from docyard_workers.process.returning import Returned
    from docyard_workers.process.solitude import Solitude
    from docyard_workers.process.sync_connections import SyncConnections
    from docyard_workers.process.tally import Tally

_log = structlog.get_logger("docyard.worker")

# As in attempts.py.
_RELEASE_SECONDS = 5.0
_STOPPED = "the worker was stopped"


@dataclass(slots=True, eq=False)
class _Held:
    attempt: Attempt
    room: BatchRoom
    call: BatchCall | None = None


@dataclass(slots=True, eq=False)
class _Gathering:
    attempts: list[Attempt]
    timer: asyncio.TimerHandle


class BatchAttempts:
    """Runs batch handlers; ``wake`` is called when there is room again, ``ended`` is told of every job whose
    outcome was written. ``calls`` is how many of their calls run.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        *,
        tally: Tally,
        wake: Callable[[], None],
        ended: Callable[[Job], None],
        connections: SyncConnections,
        apart: Apart,
    ) -> None:
        self.calls = 0
        self._database = database
        self._engine = engine
        self._tally = tally
        self._wake = wake
        self._ended = ended
        self._connections = connections
        self._apart = apart
        self._finisher = Finisher(engine, self._completions_written)
        self._returner = Returner(engine, self._returned)
        self._held: dict[tuple[int, int], _Held] = {}
        self._gathering: dict[BatchRoom, _Gathering] = {}
        # Calls, and outcomes that are written one by one.
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._solitude: Solitude

    def beside(self, solitude: Solitude) -> None:
        """Say who may have the process for itself."""
        self._solitude = solitude

    @property
    def held(self) -> Collection[tuple[int, int]]:
        """Job id and lease of all that was begun, or waits to be gathered."""
        return self._held.keys()

    def begin(self, room: BatchRoom, jobs: Sequence[Job]) -> None:
        """Take jobs that one claim brought; their handler is called now, or when they are gathered."""
        attempts: list[Attempt] = []
        alone: list[Attempt] = []
        for job in jobs:
            attempt = Attempt(job, self._database, self._connections.connection)
            self._held[job.id, job.lease] = _Held(attempt, room)
            room.take(job)
            (alone if job.alone else attempts).append(attempt)
        if alone:
            self._start(room, alone)
        if not attempts:
            return
        gathering = self._gathering.get(room)
        if gathering is not None:
            gathering.attempts += attempts
        elif room.wait > 0 and room.free > 0:
            timer = asyncio.get_running_loop().call_later(room.wait, self._gathered, room)
            self._gathering[room] = _Gathering(attempts, timer)
        else:
            self._start(room, attempts)
        if room.free <= 0:
            self._gathered(room)

    def cancel(self, job_ids: Collection[int]) -> None:
        """End the attempts of these jobs, and of no others."""
        for held in [*self._held.values()]:
            if held.attempt.job.id in job_ids and not held.attempt.ended:
                held.attempt.cancel_requested = True
                cancelled = Cancel("cancelled while it ran")
                if held.call is not None:
                    held.call.end_from_outside(held.attempt, cancelled)
                else:
                    held.attempt.ended = True
                    self._attempt_ended(held.attempt, cancelled)

    async def end(self, seconds: float) -> None:
        """Give back what has not begun, wait so long for what runs, then give the rest back."""
        for room, gathering in [*self._gathering.items()]:
            gathering.timer.cancel()
            del self._gathering[room]
            for attempt in gathering.attempts:
                if not attempt.ended:
                    attempt.ended = True
                    self._attempt_ended(attempt, _STOPPED)
        try:
            async with asyncio.timeout(seconds):
                await self._settled()
        except TimeoutError:
            pass
        finally:
            await self._give_back()

    async def close(self) -> None:
        """Give up what could not be written."""
        await self._finisher.close()
        await self._returner.close()
        await end_tasks([*self._tasks], seconds=2)

    async def _settled(self) -> None:
        while self._held:
            self._changed.clear()
            await self._changed.wait()

    async def _give_back(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RELEASE_SECONDS
        while self._held and loop.time() < deadline:
            for task in [*self._running]:
                # Again and again: a cancel may be lost (see ending.py).
                task.cancel()
            try:
                async with asyncio.timeout(0.2):
                    await self._settled()
            except TimeoutError:
                continue
        for held in [*self._held.values()]:
            self._tally.abandoned(held.attempt.job)

    def _gathered(self, room: BatchRoom) -> None:
        gathering = self._gathering.pop(room, None)
        if gathering is None:
            return
        gathering.timer.cancel()
        attempts = [attempt for attempt in gathering.attempts if not attempt.ended]
        if attempts:
            self._start(room, attempts)

    def _start(self, room: BatchRoom, attempts: Sequence[Attempt]) -> None:
        call = BatchCall(room.spec, attempts, self._attempt_ended)
        for attempt in attempts:
            self._held[attempt.job.id, attempt.job.lease].call = call
        self.calls += 1
        task = self._spawn(self._run(room, call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, room: BatchRoom, call: BatchCall) -> None:
        try:
            if self._solitude.wanted:
                await self._solitude.over()
            if call.attempts[0].job.alone:
                await self._run_alone(room, call)
            else:
                await call.run(room.threads)
        except asyncio.CancelledError:
            pass
        finally:
            self.calls -= 1
            call.end_rest(_STOPPED)
            if call.late_error is not None:
                self._tally.failed_after_commit(call.attempts[0].job, brief(call.late_error))
            if self._solitude.wanted:
                self._solitude.handler_ended()
            self._wake()

    async def _run_alone(self, room: BatchRoom, call: BatchCall) -> None:
        try:
            await Group(self._apart, self._engine, room.spec, call).run()
            return
        except Unready as reason:
            ids = [attempt.job.id for attempt in call.left]
            _log.info("job.secluded", job_id=ids[0], kind=room.spec.kind, reason=str(reason), jobs=len(ids))
        # Then here, one after the other with nothing beside: should the process end, it was this one.
        for attempt in call.left:
            async with self._solitude.alone():
                if attempt.ended:
                    continue
                if not await self._engine.begin_alone(attempt.job):
                    attempt.end_lost()
                    continue
                single = BatchCall(room.spec, [attempt], self._attempt_ended)
                self._held[attempt.job.id, attempt.job.lease].call = single
                await single.run(room.threads)

    def _attempt_ended(self, attempt: Attempt, ending: Ending) -> None:
        job = attempt.job
        self._held[job.id, job.lease].room.ended(job)
        match ending:
            case None if attempt.committed:
                self._tally.completed += 1
                self._written(job)
            case None:
                self._tally.lost(job)
                self._written(job, ended=False)
            case Done(result):
                self._finisher.complete(job, result)
            case Snooze():
                self._returner.put_back(job, ending)
            case str():
                self._returner.put_back(job, None, ending)
            case _:
                self._spawn(self._settle(attempt, ending))
        self._wake()

    async def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        written = await self._finisher.settle(attempt.job, outcome)
        if written == "written":
            self._tally.written(attempt.job, outcome)
        if written == "lost":
            await self._lost(attempt)
        else:
            self._written(attempt.job)

    def _completions_written(self, batch: Sequence[tuple[Job, Written]]) -> None:
        for job, written in batch:
            if written == "lost":
                self._spawn(self._lost(self._held[job.id, job.lease].attempt))
                continue
            self._tally.completed += written == "written"
            self._written(job)

    def _returned(self, batch: Sequence[tuple[Returned, bool]]) -> None:
        for (job, snooze, reason), kept in batch:
            if not kept:
                self._spawn(self._lost(self._held[job.id, job.lease].attempt))
                continue
            if snooze is None:
                self._tally.released(job, reason)
            else:
                self._tally.written(job, snooze)
            self._written(job)

    async def _lost(self, attempt: Attempt) -> None:
        """An outcome met no lease: the job is another's, or a commit of this attempt came first."""
        job, completed = attempt.job, attempt.committed
        if (attempt.committing or job.alone) and not completed:
            try:
                completed = await self._engine.is_completed(job)
            except DATABASE_ERRORS:
                completed = attempt.committed
        if completed:
            self._tally.completed += 1
        else:
            self._tally.lost(job)
        self._written(job, ended=completed)

    def _written(self, job: Job, *, ended: bool = True) -> None:
        held = self._held.pop((job.id, job.lease))
        held.room.written(job)
        if ended:
            self._ended(job)
        self._changed.set()
        self._wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
