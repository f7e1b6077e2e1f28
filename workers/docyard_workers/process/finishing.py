"""Completes attempts in batches: what ends while one statement runs travels in the next."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import structlog

from docyard_schema.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome

_log = structlog.get_logger("docyard.worker")

_Written = TypeVar("_Written")

_LONGEST_PAUSE = 5.0


class Finisher:
    """Writes outcomes. One that cannot be written for lack of a database is tried until it can."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Job, Any, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def complete(self, job: Job, result: Any) -> bool:
        """Complete one attempt, together with others that end now; False when its lease was lost."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, result, written))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        return await written

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        """Write any other outcome of one attempt; False when its lease was lost."""
        return await self._persist(lambda: self._engine.settle(job, outcome))

    async def release(self, job: Job) -> bool:
        """Give a job back; False when its lease was lost."""
        return await self._persist(lambda: self._engine.release(job))

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                lost = await self._complete([(job, result) for job, result, _ in batch])
            except BaseException as error:
                for _, _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                raise
            for job, _, written in batch:
                if not written.done():
                    written.set_result(job.id not in lost)

    async def _complete(self, finished: Sequence[tuple[Job, Any]]) -> set[int]:
        return {job.id for job in await self._persist(lambda: self._engine.complete(finished))}

    async def _persist(self, write: Callable[[], Awaitable[_Written]]) -> _Written:
        pause = 0.1
        while True:
            try:
                return await write()
            except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError) as error:
                # The fence makes this safe: if the lease is lost meanwhile, the write says so.
                _log.warning("finish.deferred", error=str(error).splitlines()[0], retry_in_s=round(pause, 1))
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
                pause = min(pause * 2, _LONGEST_PAUSE)
