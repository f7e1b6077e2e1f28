"""Fills a worker's free slots: from queues without limits in one statement, from others one by one."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job
    from docyard_workers.process.fronts import Fronts

# How often a worker with much to do looks whether jobs wait in queues with limits.
_LOOK_SECONDS = 0.1
# And one whose claim found nothing at all.
_SHORTEST_LOOK_SECONDS = 0.01
# When another claimer is at a queue, and at what random distance to come again.
_BUSY_SECONDS = (0.002, 0.01)
_DUE_SECONDS = 0.25
# How often a worker that is always full gives a tenth of its slots to jobs that have waited too long.
_AGED_SECONDS = 1.0
# How long a busy worker goes on in one line before it looks for more urgent jobs again.
_HEADS_SECONDS = 0.02
# A claim that takes longer may have walked along the line of one lock key; how often to look for that.
_SLOW_SECONDS = 0.005
_SLOW_SECONDS_A_JOB = 0.0001
_PARK_SECONDS = 0.5
# A claim of a limited queue that takes longer and brings nothing has read a crowd of batch jobs.
_WALK_SECONDS = 0.02


class Claiming:
    """Claims for one worker; ``begin`` starts what was claimed.

    The two kinds of queues take turns: each is first every other time, and then gets half of the slots, if
    the other could fill them too. Queues in which a crowd of batch jobs stands in the way, as ``fronts`` has
    seen, are claimed from apart.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        kinds: Mapping[str, int],
        queues: Sequence[str] | None,
        begin: Callable[[Job], None],
        fronts: Fronts | None = None,
    ) -> None:
        self._engine = engine
        self._fronts = fronts
        self._kinds = kinds
        self._queues = queues
        self._begin = begin
        self._limited: list[str] = []
        self._apart: Mapping[str, int] = {}
        # The last job of a claim that found more than it could take, and when the most urgent jobs of all
        # were last looked for.
        self._last: Job | None = None
        self._heads_at = float("-inf")
        self._looked_at = self._parked_at = self._aged_at = self._due_asked_at = float("-inf")
        self._full = self._slow = False
        self._limited_first = False
        # Where in a queue's partition keys the next claim goes on.
        self._after: dict[str, str] = {}
        self._next_at: float | None = None
        # When a look that was put off is to be made, before any longer sleep.
        self._look_at: float | None = None
        self._again_at: float | None = None

    async def fill(self, worker_id: int, slots: int) -> bool:
        """Claim and begin up to ``slots`` jobs; True when it is worth asking again at once."""
        left = slots
        if self._full and time.monotonic() - self._looked_at > _LOOK_SECONDS:
            await self._look()
        self._limited_first = not self._limited_first
        if self._limited and self._limited_first:
            left -= await self._claim_limited(worker_id, (left + 1) // 2)
        if self._full and time.monotonic() - self._aged_at > _AGED_SECONDS:
            left -= await self._claim_aged(worker_id, max(1, left // 10))
        jobs: list[Job] = []
        self._apart = self._crowded()
        if left:
            left, jobs = await self._claim(worker_id, left)
        if left and self._apart:
            left -= await self._claim_apart(worker_id, left)
        self._full = not left
        if left:
            self._look_at = self._looked_at + (_LOOK_SECONDS if jobs else _SHORTEST_LOOK_SECONDS)
            if self._look_at <= time.monotonic() and await self._look():
                return True
            left -= await self._claim_limited(worker_id, left)
        return not left

    async def _claim(self, worker_id: int, slots: int) -> tuple[int, list[Job]]:
        """Claim and begin from queues without limits; how many slots are left, and the jobs."""
        begun = time.monotonic()
        jobs: list[Job] = []
        if self._last is not None and begun - self._heads_at < _HEADS_SECONDS:
            jobs = await self._take(worker_id, slots, after=self._last)
        if len(jobs) < slots:
            self._heads_at = begun
            jobs = await self._take(worker_id, slots - len(jobs)) + jobs
        self._slow = time.monotonic() - begun > _SLOW_SECONDS + _SLOW_SECONDS_A_JOB * len(jobs)
        left = slots - len(jobs)
        # Where the whole claim came from one line there is more to come of it.
        one_line = not left and (jobs[0].queue, jobs[0].priority) == (jobs[-1].queue, jobs[-1].priority)
        self._last = jobs[-1] if one_line else None
        return left, jobs

    def _crowded(self) -> Mapping[str, int]:
        """Queues that an ordinary claim should not walk along, and how many jobs may be had of each."""
        if self._fronts is None:
            return {}
        found = {queue: self._fronts.most(queue, self._kinds) for queue in self._fronts.queues}
        return {queue: most for queue, most in found.items() if most is not None}

    async def _claim_apart(self, worker_id: int, slots: int) -> int:
        """Claim from queues whose front is crowded with batch jobs; how many."""
        assert self._fronts is not None  # noqa: S101 - it has named them
        taken = 0
        for queue, most in self._apart.items():
            walks = self._fronts.walks(queue, "ordinary")
            wanted = slots - taken if walks else min(slots - taken, most)
            if wanted <= 0 or (self._queues is not None and queue not in self._queues):
                continue
            begun = time.monotonic()
            jobs = await self._engine.claim(worker_id, slots=wanted, kinds=self._kinds, queues=[queue])
            if walks:
                self._fronts.walked(queue, "ordinary", time.monotonic() - begun)
            for job in jobs:
                self._begin(job)
            taken += len(jobs)
        return taken

    async def _take(self, worker_id: int, slots: int, *, after: Job | None = None) -> list[Job]:
        if not self._kinds:
            return []
        jobs = await self._engine.claim(
            worker_id, slots=slots, kinds=self._kinds, queues=self._queues, after=after, apart=self._apart
        )
        for job in jobs:
            self._begin(job)
        return jobs

    async def pause(self, longest: float) -> float:
        """For how many seconds there is nothing to claim, at most ``longest``, if nobody enqueues."""
        now = time.monotonic()
        if now - self._due_asked_at > _DUE_SECONDS or (self._next_at is not None and self._next_at <= now):
            seconds = await self._engine.next_due(self._queues)
            now = self._due_asked_at = time.monotonic()
            self._next_at = None if seconds is None else now + seconds
        known = (self._next_at, self._again_at, self._look_at)
        moments = [moment - now for moment in known if moment is not None]
        # A little later: the database's clock is asked when the time has come there.
        return max(0.001, min([longest, *(moment + 0.001 for moment in moments)]))

    async def _look(self) -> int:
        """See what the fast claim does not; how many jobs came to the front of their lock key's line."""
        self._limited = await self._engine.limited_queues(self._queues)
        came_near = await self._engine.unpark()
        if self._slow and time.monotonic() - self._parked_at > _PARK_SECONDS:
            # Perhaps it walked along the line of one lock key.
            await self._engine.park()
            self._parked_at = time.monotonic()
        self._looked_at = time.monotonic()
        self._look_at = None
        return came_near

    async def _claim_aged(self, worker_id: int, slots: int) -> int:
        """Claim a few jobs that more urgent ones kept waiting; how many."""
        self._aged_at = time.monotonic()
        jobs = await self._engine.claim_aged(
            worker_id, slots=slots, kinds=self._kinds, queues=self._queues, apart=self._apart
        )
        for job in jobs:
            self._begin(job)
        return len(jobs)

    async def _claim_limited(self, worker_id: int, slots: int) -> int:
        """Claim from queues with limits, in a random order; how many."""
        taken = 0
        self._again_at = None
        for queue in random.sample(self._limited, len(self._limited)):
            if taken == slots:
                break
            if self._fronts is not None and not self._fronts.walks(queue, "limited"):
                continue
            begun = time.monotonic()
            claimed = await self._engine.claim_limited(
                worker_id, queue, slots=slots - taken, kinds=self._kinds, after=self._after.get(queue, "")
            )
            self._note_walk(queue, len(claimed.jobs), time.monotonic() - begun)
            for job in claimed.jobs:
                self._begin(job)
            taken += len(claimed.jobs)
            self._after[queue] = claimed.last_key
            again_in = random.uniform(*_BUSY_SECONDS) if claimed.busy else claimed.again_in  # noqa: S311
            if claimed.last_key:
                # There are more keys than were looked at.
                again_in = 0
            if again_in is not None:
                at = time.monotonic() + again_in
                self._again_at = at if self._again_at is None else min(self._again_at, at)
        return taken

    def _note_walk(self, queue: str, jobs: int, seconds: float) -> None:
        # Among the jobs of a batch handler this claim looks for ordinary ones in vain, and reads them all.
        if self._fronts is None or queue not in self._fronts.queues:
            return
        crowded = self._fronts.most(queue, self._kinds) is not None
        if crowded or (not jobs and seconds > _WALK_SECONDS):
            self._fronts.walked(queue, "limited", seconds)
