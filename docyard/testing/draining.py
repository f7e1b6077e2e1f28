"""Runs all jobs that can run, in the test's own process, one after the other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docyard.testing.clock import clock_of, freeze
from docyard.testing.inline_worker import InlineWorker
from docyard_queue import Backoff, QueueError
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from docyard.testing.clock import Clock
    from docyard.testing.crashing import Crash
    from docyard.testing.performed import Ending, Performed
    from docyard_queue import HandlerSpec, Job, Registry
    from docyard_schema import Database

_statements = load_statements("docyard.testing", "draining.sql")

# The most jobs of one call of a batch handler.
_TOGETHER = 1000

# A backoff without a wait.
AT_ONCE = Backoff(base=timedelta(0))


@dataclass(slots=True)
class Drained:
    """The attempts that a drain ran, in their order; the numbers count attempts, not jobs."""

    attempts: list[Performed] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Jobs that were completed."""
        return self._count("done")

    @property
    def failed(self) -> int:
        """Attempts that failed, the last ones of dead letters among them."""
        return self._count("failed")

    @property
    def dead(self) -> int:
        """Jobs that became dead letters by a failure."""
        return sum(attempt.dead for attempt in self.attempts)

    @property
    def snoozed(self) -> int:
        """Attempts that were put off."""
        return self._count("snoozed")

    @property
    def cancelled(self) -> int:
        """Jobs whose handler cancelled them."""
        return self._count("cancelled")

    @property
    def crashed(self) -> int:
        """Attempts that a crash ended."""
        return self._count("crashed")

    @property
    def errors(self) -> list[Performed]:
        """The attempts that failed."""
        return [attempt for attempt in self.attempts if attempt.outcome == "failed"]

    def require_no_errors(self) -> Drained:
        """Fail, from the first handler's exception, if an attempt failed; returns itself."""
        __tracebackhide__ = True
        for first in self.errors[:1]:
            raise AssertionError("\n".join(map(str, self.errors))) from first.error
        return self

    def _count(self, outcome: Ending) -> int:
        return sum(attempt.outcome == outcome for attempt in self.attempts)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in ("done", "failed", "snoozed", "cancelled", "crashed")}
        return f"<Drained {', '.join(f'{name} {number}' for name, number in shown.items() if number)}>"


async def drain(
    database: Database,
    registry: Registry,
    *,
    queues: Sequence[str] | None = None,
    with_scheduled: bool = False,
    backoff: Backoff | None = None,
    crash: Crash | None = None,
    limit: int = 10_000,
) -> Drained:
    """Run jobs of the registry's kinds until none can run; what they enqueue and due schedules included.

    One at a time, the most urgent first, as one worker with one slot; a batch handler gets what waits. A job
    that has to wait (for its time, its backoff, its lock key, a limit) is left. ``with_scheduled`` moves the
    clock to the next time at which something may run: the frozen one of the database, else one of its own
    that ends with the drain.
    ``backoff`` takes the place of every handler's; with ``AT_ONCE`` what failed is tried again at once.

    After a ``crash`` (:func:`crash_at`) another worker rescues the job and goes on. Raises
    :class:`QueueError` after ``limit`` attempts: something enqueues or puts off for ever.
    """
    specs = {spec.kind: _with_backoff(spec, backoff) for spec in registry}
    drained = Drained()
    with ExitStack() as stack:
        clock = clock_of(database)
        if with_scheduled and clock is None:
            clock = stack.enter_context(freeze(database, await _now(database)))
        run = _Run(database, specs, queues, drained, limit)
        async with InlineWorker(database) as worker:
            if registry.schedules:
                await worker.engine.fire_due(registry.schedules)
        while await run.work(crash) or (
            with_scheduled and clock is not None and await run.let_time_pass(clock)
        ):
            pass
    return drained


@dataclass(slots=True)
class _Run:
    database: Database
    specs: Mapping[str, HandlerSpec]
    queues: Sequence[str] | None
    drained: Drained
    limit: int
    batches: set[UUID] = field(default_factory=set)
    # When a rate lets more through, as the last look found it.
    again_in: float | None = None

    async def work(self, crash: Crash | None) -> bool:
        """One worker's life: until there is nothing to run (False), or it crashed (True)."""
        async with InlineWorker(self.database) as worker:
            # Of workers that have no row any more: of the one that crashed.
            await worker.engine.rescue(worker.id, scope="", silent=False)
            while True:
                jobs = await self._claim(worker)
                if jobs and await self._run(worker, jobs, crash):
                    return True
                if not jobs and not await self._close_batches(worker) and not await worker.engine.unpark():
                    return False

    async def _run(self, worker: InlineWorker, jobs: list[Job], crash: Crash | None) -> bool:
        """Run one job, or those of a batch handler together; True when it crashed."""
        spec = self.specs[jobs[0].kind]
        for job in jobs:
            await self._require_an_end(worker, job)
        if spec.batch is None:
            ended = [await worker.attempt(spec, jobs[0], crash)]
        else:
            ended = await worker.batch(spec, jobs, crash)
        self.drained.attempts += ended
        self.batches |= {job.batch_id for job in jobs if job.batch_id is not None}
        return any(done.outcome == "crashed" for done in ended)

    async def let_time_pass(self, clock: Clock) -> bool:
        """Move the clock to the time when something may run; False when nothing waits for a time."""
        queues = None if self.queues is None else [*self.queues]
        found = await _ask(self.database, _statements.next_time, {"kinds": [*self.specs], "queues": queues})
        moments: list[datetime] = [] if found is None else [found]
        if self.again_in is not None:
            # A little later: half a microsecond too early would be no time at all.
            moments.append(clock.now + timedelta(seconds=self.again_in, milliseconds=1))
        if moments:
            clock.move_to(min(moments))
        return bool(moments)

    async def _claim(self, worker: InlineWorker) -> list[Job]:
        kinds = {kind: spec.max_attempts for kind, spec in self.specs.items()}
        self.again_in = None
        jobs = await worker.engine.claim(worker.id, slots=1, kinds=kinds, queues=self.queues)
        if jobs:
            return await self._with_others(worker, jobs[0])
        for queue in await worker.engine.limited_queues(self.queues):
            after: str | None = None
            while after != "":
                found = await worker.engine.claim_limited(
                    worker.id, queue, slots=1, kinds=kinds, after=after or ""
                )
                if found.jobs:
                    return found.jobs
                after = found.last_key
                if found.again_in is not None:
                    self.again_in = min(found.again_in, self.again_in or found.again_in)
        return []

    async def _with_others(self, worker: InlineWorker, job: Job) -> list[Job]:
        """The job, and if it is a batch handler's those that wait beside it, as far as its size goes."""
        rule = self.specs[job.kind].batch
        if rule is None or job.alone or rule.size <= job.weight:
            return [job]
        kinds = {kind: spec.max_attempts for kind, spec in self.specs.items() if spec.batch is rule}
        others = await worker.engine.claim_weighed(
            worker.id,
            job.queue,
            slots=_TOGETHER,
            room=rule.size - job.weight,
            whatever_it_weighs=False,
            kinds=kinds,
        )
        return [job, *others]

    async def _close_batches(self, worker: InlineWorker) -> bool:
        touched, self.batches = self.batches, set()
        return bool(touched and await worker.engine.close_batches(touched))

    async def _require_an_end(self, worker: InlineWorker, job: Job) -> None:
        if len(self.drained.attempts) < self.limit:
            return
        await worker.engine.release(job, "the drain has run too many attempts")
        raise QueueError(
            f"The drain has run {self.limit:,} attempts and there are more: {self.drained!r}.",
            hint="Does a handler enqueue or snooze for ever? If so many are right, raise limit.",
            operation="drain",
        )


def _with_backoff(spec: HandlerSpec, backoff: Backoff | None) -> HandlerSpec:
    if backoff is None:
        return spec
    retry = {error: policy and backoff for error, policy in spec.retry.items()}
    return replace(spec, backoff=backoff, retry=retry)


async def _now(database: Database) -> datetime:
    now: datetime = await _ask(database, _statements.now, {})
    return now


async def _ask(database: Database, statement: str, values: dict[str, Any]) -> Any:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values)
        [answer] = await cursor.fetchone() or [None]
    return answer
