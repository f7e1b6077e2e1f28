"""Claims for batch handlers: of the queues in which their jobs wait, as many as their room has weight for."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_workers.process.fronts import Fronts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_workers.process.batch_room import BatchRoom

# How soon a queue is asked again that gave less than there was room for: by a worker that has nothing else to
# do, and by one that claims ordinary jobs all the time.
_IDLE_SECONDS = 0.005
_BUSY_SECONDS = 0.05
# Room that comes free bit by bit is gathered for so long, until it is a part of the whole.
_PART = 8
_MOST_JOBS = 4096
# Before the first claim nobody knows what a job weighs.
_FIRST_JOBS = 64
# As in claiming.py.
_AGED_SECONDS = 1.0
_CLAIMER_SECONDS = (0.002, 0.01)
_SLOW_SECONDS = 0.005
_SLOW_SECONDS_A_JOB = 0.0001
_PARK_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Line:
    """The jobs of one handler that wait in one queue, as far as they are known."""

    room: BatchRoom
    queue: str
    asked_at: float = float("-inf")
    aged_at: float = float("-inf")
    # Not before, for a rate has to let more through.
    again_at: float = float("-inf")
    # The last claim found more than there was room for.
    more: bool = False
    # There was room, and it was not asked.
    passed_over: bool = False
    # Where in the partition keys the next limited claim goes on.
    after: str = ""

    def wait(self, idle: bool) -> float:
        """Seconds until it may be asked again."""
        if self.room.free <= 0:
            return math.inf
        rest = self.again_at - time.monotonic()
        if self.more and (self.room.free >= self.room.size / _PART or self.room.empty):
            return max(0.0, rest)
        return max(rest, self.asked_at + (_IDLE_SECONDS if idle else _BUSY_SECONDS) - time.monotonic())


class BatchClaiming:
    """Claims for the batch handlers of one worker; ``begin`` starts what one claim brought.

    Each handler's own queue is asked, and every other in which jobs of its kinds were seen, which ``fronts``
    tells ordinary claims as well.
    """

    def __init__(
        self,
        engine: Engine,
        rooms: Sequence[BatchRoom],
        *,
        queues: Sequence[str] | None,
        begin: Callable[[BatchRoom, Sequence[Job]], None],
    ) -> None:
        self._engine = engine
        self._rooms = rooms
        self._queues = queues
        self._begin = begin
        self._lines = [_Line(room, room.queue) for room in rooms if queues is None or room.queue in queues]
        kinds = [kind for room in rooms for kind in room.kinds]
        self.fronts = Fronts(engine, kinds, {line.queue for line in self._lines}, served=queues)
        self._limited: list[str] = []
        self._means = {room: max(1.0, room.size / _FIRST_JOBS) for room in rooms}
        self._parked_at = float("-inf")
        self._to_look = self._idle = False

    def due(self, *, idle: bool = False) -> bool:
        """Whether there is something to do now, for a worker that has nothing else to do, or that has."""
        self._idle = idle
        for line in self._lines:
            line.passed_over = line.passed_over or line.room.free > 0
        self._to_look = self._to_look or bool(self._rooms)
        return any(line.wait(idle) <= 0 for line in self._lines) or (
            bool(self._rooms) and self.fronts.wait() <= 0
        )

    async def fill(self, worker_id: int) -> bool:
        """Claim and begin what there is room for; True when it is worth asking again at once."""
        for line in random.sample(self._lines, len(self._lines)):
            if line.wait(self._idle) <= 0:
                await self._claim(worker_id, line)
        return await self._look() or any(line.more and line.wait(idle=False) <= 0 for line in self._lines)

    def pause(self) -> float:
        """For how many seconds there is nothing to do, if nobody enqueues."""
        waits = [line.wait(self._idle) for line in self._lines if line.passed_over]
        if self._to_look:
            waits.append(self.fronts.wait())
        waits.append(self.fronts.wait_to_walk())
        return max(0.001, min(waits, default=math.inf))

    async def _look(self) -> bool:
        """See what stands where; True when there is more to claim."""
        if not self._rooms or self.fronts.wait() > 0:
            return False
        limited = await self._engine.limited_queues(self._queues)
        changed = await self.fronts.look() or limited != self._limited
        # Whoever is not woken again has looked everywhere since it was.
        self._to_look = not self.fronts.looked_everywhere
        self._limited = limited
        # Those of limited queues may have partition keys, and be seen by nobody.
        for queue in {*self.fronts.queues, *limited}:
            for room in self._rooms:
                if any(line.room is room and line.queue == queue for line in self._lines):
                    continue
                if queue in limited or not self.fronts.kinds_in(queue).isdisjoint(room.kinds):
                    self._lines.append(_Line(room, queue))
        return bool(await self._engine.unpark()) or changed

    async def _claim(self, worker_id: int, line: _Line) -> None:
        room = line.room
        free, mean, begun = room.free, self._means[room], time.monotonic()
        slots = min(_MOST_JOBS, math.ceil(free / mean) + 1)
        line.asked_at, line.passed_over = begun, False
        if line.queue in self._limited:
            jobs = await self._claim_limited(worker_id, line, max(1, min(_MOST_JOBS, int(free / mean))))
        else:
            jobs = await self._claim_weighed(worker_id, line, slots)
        taken = time.monotonic() - begun
        if not jobs and taken > _SLOW_SECONDS and begun - self._parked_at > _PARK_SECONDS:
            # Perhaps it walked along the line of one lock key.
            await self._engine.park()
            self._parked_at = time.monotonic()
        if jobs:
            self._means[room] = (mean + sum(job.weight for job in jobs) / len(jobs)) / 2
            self._begin(room, jobs)

    async def _claim_weighed(self, worker_id: int, line: _Line, slots: int) -> list[Job]:
        room, begun, walks = line.room, time.monotonic(), False
        free, empty, sort = room.free, room.empty, room.spec.kind
        most = self.fronts.most(line.queue, room.kinds)
        if most is not None:
            walks = self.fronts.walks(line.queue, sort)
            slots = slots if walks else min(slots, most)
        jobs: list[Job] = []
        if line.more and begun - line.aged_at > _AGED_SECONDS and slots:
            line.aged_at = begun
            jobs = await self._engine.claim_aged(
                worker_id, slots=max(1, slots // 10), kinds=room.kinds, queues=[line.queue]
            )
            free -= sum(job.weight for job in jobs)
            empty = empty and not jobs
        if slots and free > 0:
            jobs += await self._engine.claim_weighed(
                worker_id, line.queue, slots=slots, room=free, whatever_it_weighs=empty, kinds=room.kinds
            )
        if walks:
            self.fronts.walked(line.queue, sort, time.monotonic() - begun)
        left = room.free - sum(job.weight for job in jobs)
        line.more = bool(jobs) and (len(jobs) >= slots or left < max(job.weight for job in jobs))
        return jobs

    async def _claim_limited(self, worker_id: int, line: _Line, slots: int) -> list[Job]:
        """Of a queue with limits: what it weighs is known only afterwards, and may be a little too much."""
        room = line.room
        claimed = await self._engine.claim_limited(
            worker_id, line.queue, slots=slots, kinds=room.kinds, after=line.after
        )
        line.after = claimed.last_key
        line.more = len(claimed.jobs) >= slots or bool(claimed.last_key)
        again_in = random.uniform(*_CLAIMER_SECONDS) if claimed.busy else claimed.again_in  # noqa: S311
        line.again_at = float("-inf")
        if again_in is not None and not line.more:
            line.again_at = time.monotonic() + again_in
            line.passed_over = True
        return claimed.jobs
