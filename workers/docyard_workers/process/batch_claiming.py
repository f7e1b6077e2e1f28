"""Claims for batch handlers: of each one's queue, as many jobs as its room has weight for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_workers.process.batch_room import BatchRoom

# How soon a queue is asked again that gave less than there was room for: by a worker that has nothing else to
# do, and by one whose slots never come free.
_IDLE_SECONDS = 0.005
_BUSY_SECONDS = 0.05
# Room that comes free bit by bit is gathered for so long, until it is a part of the whole.
_PART = 8
_MOST_JOBS = 4096
# Before the first claim nobody knows what a job weighs.
_FIRST_JOBS = 64


@dataclass(slots=True, eq=False)
class _Line:
    """What is known of the jobs that wait for one handler."""

    room: BatchRoom
    queue: str
    mean: float
    asked_at: float = float("-inf")
    # The last claim found more than there was room for.
    more: bool = False
    # It was not asked though there was room.
    passed_over: bool = False

    def wait(self, idle: bool) -> float:
        """Seconds until it may be asked again."""
        if self.room.free <= 0:
            return math.inf
        if self.more and (self.room.free >= self.room.size / _PART or self.room.empty):
            return 0.0
        return self.asked_at + (_IDLE_SECONDS if idle else _BUSY_SECONDS) - time.monotonic()


class BatchClaiming:
    """Claims for the batch handlers of one worker; ``begin`` starts what one claim brought."""

    def __init__(
        self,
        engine: Engine,
        rooms: Sequence[BatchRoom],
        *,
        queues: Sequence[str] | None,
        begin: Callable[[BatchRoom, Sequence[Job]], None],
    ) -> None:
        self._engine = engine
        self._begin = begin
        self._lines = [
            _Line(room, room.queue, max(1.0, room.size / _FIRST_JOBS))
            for room in rooms
            if queues is None or room.queue in queues
        ]

    def due(self, *, idle: bool = False) -> bool:
        """Whether a queue should be asked now, by a worker that has nothing else to do, or that has."""
        for line in self._lines:
            line.passed_over = line.passed_over or line.room.free > 0
        return any(line.wait(idle) <= 0 for line in self._lines)

    async def fill(self, worker_id: int) -> bool:
        """Claim and begin what there is room for; True when it is worth asking again at once."""
        for line in self._lines:
            if line.wait(idle=True) <= 0:
                await self._claim(worker_id, line)
        return any(line.more and line.wait(idle=False) <= 0 for line in self._lines)

    def pause(self) -> float:
        """For how many seconds no queue has to be asked, if nobody enqueues."""
        waits = [line.wait(idle=True) for line in self._lines if line.passed_over]
        return max(0.001, min(waits, default=math.inf))

    async def _claim(self, worker_id: int, line: _Line) -> None:
        room = line.room
        free, empty = room.free, room.empty
        slots = min(_MOST_JOBS, math.ceil(free / line.mean) + 1)
        line.asked_at = time.monotonic()
        line.passed_over = False
        jobs = await self._engine.claim_weighed(
            worker_id, line.queue, slots=slots, room=free, whatever_it_weighs=empty, kinds=room.kinds
        )
        line.more = False
        if jobs:
            weights = [job.weight for job in jobs]
            line.mean = (line.mean + sum(weights) / len(weights)) / 2
            line.more = len(jobs) == slots or free - sum(weights) < max(weights)
            self._begin(room, jobs)
