"""The worker: a loop that claims as many jobs as it has free slots, and never more."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import structlog

from docyard_queue.engine import Engine, PostgresEngine
from docyard_queue.heartbeat import Heartbeat
from docyard_queue.inspection import Inspection
from docyard_queue.listener import listen
from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_workers.process.attempts import Attempts
from docyard_workers.process.batch_claiming import BatchClaiming
from docyard_workers.process.batch_ends import BatchEnds
from docyard_workers.process.batch_room import rooms_of
from docyard_workers.process.claiming import Claiming
from docyard_workers.process.counting import keep_counting
from docyard_workers.process.ending import end_tasks
from docyard_workers.process.freeing import Freeing
from docyard_workers.process.isolation.reference import require_importable
from docyard_workers.process.options import WorkerOptions
from docyard_workers.process.recovery import Recovery
from docyard_workers.process.scheduling import Scheduling
from docyard_workers.process.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from docyard_queue.jobs import Job
    from docyard_queue.registry import Registry
    from docyard_schema.database import Database
    from docyard_workers.process.isolation.reference import Recipe

_log = structlog.get_logger("docyard.worker")

# How often a drain looks whether something is left that it neither runs nor can claim yet.
_DRAIN_SECONDS = 0.5

_GATHER_SECONDS = 0.001

# What a stop leaves to a claim that is on its way. Without a database it would wait for a connection.
_LAST_CLAIM_SECONDS = 2.0

_UNSETTLED: tuple[type[Exception], ...] = (TimeoutError, *DATABASE_ERRORS)


class Worker:
    """Runs the jobs of a registry::

        async with Worker(database, registry) as worker:
            await worker.run()      # until stop() is called, or
            await worker.drain()    # until nothing is left to do

    Entered it is registered and beats; left it has given back or finished every job. A second stop is safe.

    ``recipe`` says how a child process makes the registry, for handlers that it cannot import by their names.
    Raises :class:`ConfigError` for an isolated handler that no child could find.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        options: WorkerOptions | None = None,
        *,
        engine: Engine | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        require_importable(registry, recipe)
        self.database = database
        self.registry = registry
        self.options = options or WorkerOptions()
        self._engine = engine or PostgresEngine(database)
        self._kinds = {spec.kind: spec.max_attempts for spec in registry}
        self._wake = asyncio.Event()
        self._cancels = asyncio.Event()
        self._stopping = False
        self._hurry: Callable[[], None] = _nothing
        self._background: list[asyncio.Task[None]] = []
        self._batch_ends = BatchEnds(self._engine)
        self._freeing = Freeing(self._engine)
        self._tally = Tally(self._wake.set)
        self._attempts = Attempts(
            database,
            registry,
            self._engine,
            concurrency=self.options.concurrency,
            tally=self._tally,
            wake=self._wake.set,
            ended=self._job_ended,
            recipe=recipe,
        )
        self._rooms = rooms_of(registry, self._wake.set)
        self._batch_claiming = BatchClaiming(
            self._engine, self._rooms, queues=self.options.queues, begin=self._attempts.batches.begin
        )
        self._claiming = Claiming(
            self._engine,
            kinds={spec.kind: spec.max_attempts for spec in registry if spec.batch is None},
            queues=self.options.queues,
            begin=self._attempts.begin,
            fronts=self._batch_claiming.fronts if self._rooms else None,
        )
        self._heartbeat: Heartbeat
        self._recovery: Recovery

    @property
    def completed(self) -> int:
        """Jobs that this worker completed."""
        return self._tally.completed

    @property
    def failed(self) -> int:
        """Jobs whose last attempt failed here: dead letters."""
        return self._tally.failed

    async def __aenter__(self) -> Self:
        loop, seconds = asyncio.get_running_loop(), self.options.heartbeat_seconds

        def cancel_from_thread(job_ids: list[int]) -> None:
            loop.call_soon_threadsafe(self._attempts.cancel, job_ids)

        self._heartbeat = Heartbeat(
            self.database,
            queues=self.options.queues,
            kinds=self._kinds,
            seconds=seconds,
            on_cancel=cancel_from_thread,
        )
        self._recovery = Recovery(
            self._engine, self._heartbeat, self._attempts, seconds=seconds, wake=self._wake.set
        )
        await asyncio.to_thread(self._heartbeat.start)
        try:
            await self._recovery.look()
        except BaseException:
            await asyncio.to_thread(self._heartbeat.stop)
            raise
        listening = listen(self.database, on_job=self._wake.set, on_cancel=lambda _: self._cancels.set())
        scheduling = Scheduling(self._engine, self.registry.schedules)
        background = (
            listening,
            self._recovery.run(),
            self._watch_cancels(),
            scheduling.run(),
            self._batch_ends.run(),
            self._freeing.run(),
            keep_counting(self._engine),
        )
        self._background = [asyncio.create_task(work) for work in background]
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
        try:
            await self._attempts.end(self.options.shutdown_seconds)
        finally:
            await end_tasks(self._background, seconds=10)
            await self._leave_nothing_behind()
            await self._attempts.close()
            await asyncio.to_thread(self._heartbeat.stop)
            _log.info("worker.stopped", worker_id=self._heartbeat.worker_id, completed=self.completed)

    def stop(self) -> None:
        """Claim no more; ``run`` and ``drain`` return, and leaving the context waits for running jobs."""
        if not self._stopping:
            self._stopping = True
            self._hurry()
        self._wake.set()

    async def run(self) -> None:
        """Work until :meth:`stop` is called."""
        async with self._until_stopped():
            while not self._stopping:
                self._wake.clear()
                if not await self._claim():
                    await self._rest(self.options.poll_seconds * random.uniform(0.8, 1))  # noqa: S311

    @asynccontextmanager
    async def _until_stopped(self) -> AsyncIterator[None]:
        """Inside, what still waits for the database a while after a stop is given up.

        A claim that was cut off may have taken jobs: they are given back as this worker's strays.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._hurry = lambda: limit.reschedule(loop.time() + _LAST_CLAIM_SECONDS)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._hurry = _nothing

    async def drain(self) -> None:
        """Work until no job of the registry can run, runs, or waits for another attempt; or until stop.

        It does not give up on a job before its attempts are used up, so with a long backoff or snooze it may
        take long. Jobs that other workers run are waited for; jobs that are scheduled for later and never
        began, not.
        """
        async with self._until_stopped():
            while not self._stopping:
                self._wake.clear()
                if await self._claim():
                    continue
                if not self._attempts.held and await self._is_drained():
                    return
                await self._rest(min(_DRAIN_SECONDS, self.options.poll_seconds))

    async def _is_drained(self) -> bool:
        # A callback may be left to run.
        await self._batch_ends.look()
        try:
            return not await Inspection(self.database).unfinished(list(self._kinds), self.options.queues)
        except DATABASE_ERRORS as error:
            _log.warning("claim.failed", error=brief(error))
            return False

    async def _claim(self) -> bool:
        """Fill the free slots; True when it is worth asking again at once."""
        slots = self._attempts.free_slots
        if self._attempts.secluded:
            return False
        if slots <= 0 and not self._batch_claiming.due():
            return False
        if 0 < slots < self.options.concurrency // 4:
            # Of a busy worker slots come free one by one; a claim for many costs little more than for one.
            await asyncio.sleep(_GATHER_SECONDS)
            slots = self._attempts.free_slots
        try:
            again = slots > 0 and await self._claiming.fill(self._heartbeat.worker_id, slots)
            if self._batch_claiming.due(idle=not again):
                again = await self._batch_claiming.fill(self._heartbeat.worker_id) or again
            return again
        except DATABASE_ERRORS as error:
            _log.warning("claim.failed", error=brief(error))
            await self._sleep(random.uniform(0.1, 1))  # noqa: S311 - jitter
            return True

    def _job_ended(self, job: Job) -> None:
        self._batch_ends.job_ended(job)
        self._freeing.job_ended(job)

    async def _watch_cancels(self) -> None:
        while True:
            await self._cancels.wait()
            self._cancels.clear()
            try:
                self._attempts.cancel(await self._engine.cancel_requested(self._heartbeat.worker_id))
            except DATABASE_ERRORS as error:
                # The heartbeat asks again.
                _log.warning("cancel.missed", error=brief(error))

    async def _leave_nothing_behind(self) -> None:
        # A claim that was cut off by a cancelled run() may have taken jobs. Others would find them, and count
        # a crash.
        try:
            async with asyncio.timeout(2):
                await self._recovery.release_strays(grace_seconds=0)
                await self._batch_ends.look()
                await self._freeing.tell()
        except _UNSETTLED as error:
            _log.warning("rescue.failed", error=brief(error))

    async def _rest(self, longest: float) -> None:
        """Sleep until there may be something to claim."""
        longest = min(longest, self._batch_claiming.pause())
        if self._attempts.free_slots <= 0:
            await self._sleep(longest)
            return
        try:
            seconds = await self._claiming.pause(longest)
        except DATABASE_ERRORS as error:
            _log.warning("claim.failed", error=brief(error))
            seconds = longest
        await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass


def _nothing() -> None:
    pass
