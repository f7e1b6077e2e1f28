"""Puts jobs back, many in one statement: those of a batch that was stopped, or told to wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from docyard_workers.process.ending import end_tasks
from docyard_workers.process.finishing import until_written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Snooze

# A job, how long it waits (None: it was released), and why.
Returned: TypeAlias = "tuple[Job, Snooze | None, str]"

_MOST = 1000


class Returner:
    """Snoozes and releases jobs until that is written; ``on_returned`` is told of each, and whether its
    lease held.
    """

    def __init__(
        self, engine: Engine, on_returned: Callable[[Sequence[tuple[Returned, bool]]], None]
    ) -> None:
        self._engine = engine
        self._on_returned = on_returned
        self._waiting: list[Returned] = []
        self._task: asyncio.Task[None] | None = None

    def put_back(self, job: Job, snooze: Snooze | None, reason: str = "") -> None:
        """Put one job back, together with others that end now."""
        self._waiting.append((job, snooze, reason))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Give up what could not be written."""
        if self._task is not None:
            await end_tasks([self._task], seconds=2)

    async def _flush(self) -> None:
        while self._waiting:
            returned, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            kept = await self._write(returned)
            self._on_returned([(given, (given[0].id, given[0].lease) in kept) for given in returned])

    async def _write(self, returned: Sequence[Returned]) -> set[tuple[int, int]]:
        return await until_written(lambda: self._engine.put_back(returned), stubborn=True)
