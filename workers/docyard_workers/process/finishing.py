"""Writes outcomes: completions in batches, and everything until it is written."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import structlog

from docyard_queue.outage import OUTAGE, brief
from docyard_queue.outcomes import Done, Failure
from docyard_workers.process.ending import end_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome

_log = structlog.get_logger("docyard.worker")

# "lost": the lease is gone and nothing was written. "refused": Postgres would not take the outcome, and the
# attempt counts as a failure.
Written: TypeAlias = Literal["written", "lost", "refused"]

_Answer = TypeVar("_Answer")

_LONGEST_PAUSE = 5.0
_BATCH = 1000


class Finisher:
    """Writes outcomes, so that no job stays ``running`` under a living worker.

    One that cannot be written for lack of a database is tried until it can; the fence makes that safe. One
    that Postgres refuses becomes a failure that says so.
    """

    def __init__(self, engine: Engine, on_completed: Callable[[Sequence[tuple[Job, Written]]], None]) -> None:
        self._engine = engine
        self._on_completed = on_completed
        self._waiting: list[tuple[Job, Any]] = []
        self._task: asyncio.Task[None] | None = None

    def complete(self, job: Job, result: Any) -> None:
        """Complete one attempt, together with others that end now; ``on_completed`` is told of all."""
        self._waiting.append((job, result))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())

    async def settle(self, job: Job, outcome: Outcome) -> Written:
        """Write any other outcome of one attempt."""
        try:
            kept = await until_written(lambda: self._engine.settle(job, outcome))
        except Exception as error:  # noqa: BLE001 - whatever it was, the job must not stay as it is
            _log.error("finish.refused", job_id=job.id, kind=job.kind, error=brief(error))
            refused = _refused(error)
            kept = await until_written(lambda: self._engine.settle(job, refused), stubborn=True)
            return "refused" if kept else "lost"
        return "written" if kept else "lost"

    async def release(self, job: Job, reason: str) -> bool:
        """Give a job back; False when its lease was lost."""
        return await until_written(lambda: self._engine.release(job, reason), stubborn=True)

    async def flushed(self) -> None:
        """Wait until every completion so far is written."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Give up what could not be written."""
        if self._task is not None:
            await end_tasks([self._task], seconds=2)

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            became = await self._complete(batch)
            self._on_completed([(job, end) for (job, _), end in zip(batch, became, strict=True)])

    async def _complete(self, finished: Sequence[tuple[Job, Any]]) -> list[Written]:
        try:
            lost = await until_written(lambda: self._engine.complete(finished))
        except Exception:  # noqa: BLE001 - told of by settle()
            # One of them is refused, and must not fail the others.
            return [await self.settle(job, Done(result)) for job, result in finished]
        gone = {(job.id, job.lease) for job in lost}
        return ["lost" if (job.id, job.lease) in gone else "written" for job, _ in finished]


async def until_written(write: Callable[[], Awaitable[_Answer]], *, stubborn: bool = False) -> _Answer:
    """What ``write`` gives, tried until there is a database; ``stubborn``: until Postgres takes it."""
    pause = 0.1
    while True:
        try:
            return await write()
        except Exception as error:
            if not stubborn and not isinstance(error, OUTAGE):
                raise
            _log.warning("finish.deferred", error=brief(error), retry_in_s=round(pause, 1))
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
        pause = min(pause * 2, _LONGEST_PAUSE)


def _refused(error: Exception) -> Failure:
    return Failure(
        code="finish_refused",
        error_class=type(error).__qualname__,
        message=f"Postgres refused to write how the attempt ended: {brief(error)}",
        traceback="",
        retry_in=timedelta(minutes=1),
    )
