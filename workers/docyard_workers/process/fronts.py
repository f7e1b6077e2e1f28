"""What stands at the front of queues in which batch jobs wait, so that no claim walks past a crowd of others.

A claim of some kinds reads a queue from its front until it has enough. Where batch jobs and ordinary ones
share a queue, thousands of the one sort may stand before, or instead of, any of the other.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from docyard_queue.engine import Engine

# A queue in which fewer jobs wait is claimed from as if they were all of one sort.
_PLACES = 64
_SECONDS = 0.25
# How often all queues are looked at, for batch jobs in queues where none were seen before.
_EVERYWHERE_SECONDS = 1.0
# How often jobs are claimed that stand far behind others; such a claim takes a part of the time at most.
_WALK_SECONDS = 1.0
_WALK_REST = 20


class Fronts:
    """``queues`` are those in which jobs of ``kinds``, a worker's batch kinds, were seen."""

    def __init__(
        self,
        engine: Engine,
        kinds: Collection[str],
        queues: Collection[str],
        *,
        served: Sequence[str] | None,
    ) -> None:
        self.queues = set(queues)
        self._engine = engine
        self._kinds = frozenset(kinds)
        self._served = served
        # By queue, and whether ready or late.
        self._seen: dict[tuple[str, bool], dict[str, int]] = {}
        self._looked_at = self._everywhere_at = float("-inf")
        self._walk_at: dict[tuple[str, str], float] = {}

    def most(self, queue: str, kinds: Collection[str]) -> int | None:
        """How many jobs of these kinds a claim may take from a queue without a long walk; None: any."""
        least: int | None = None
        for late in (False, True):
            front = self._seen.get((queue, late), {})
            ours = sum(count for kind, count in front.items() if kind in kinds)
            if sum(front.values()) >= _PLACES and ours < _PLACES:
                least = ours if least is None else min(ours, least)
        return least

    def walks(self, queue: str, sort: str) -> bool:
        """Whether it is time for a claim that may walk along a queue for this sort of jobs."""
        return time.monotonic() >= self._walk_at.get((queue, sort), 0)

    def walked(self, queue: str, sort: str, seconds: float) -> None:
        """A claim that may have walked took so long."""
        self._walk_at[queue, sort] = time.monotonic() + max(_WALK_SECONDS, _WALK_REST * seconds)

    def wait_to_walk(self) -> float:
        """Seconds until it is time for such a claim where a crowd stands in the way."""
        now = time.monotonic()
        crowded = {queue for (queue, _), front in self._seen.items() if sum(front.values()) >= _PLACES}
        moments = [at - now for (queue, _), at in self._walk_at.items() if queue in crowded and at > now]
        return min(moments, default=math.inf)

    @property
    def looked_everywhere(self) -> bool:
        """Whether the last look was at all queues."""
        return self._everywhere_at == self._looked_at

    def wait(self) -> float:
        """Seconds until the next look is worth while, if jobs came in."""
        now = time.monotonic()
        return min(self._looked_at + _SECONDS, self._everywhere_at + _EVERYWHERE_SECONDS) - now

    async def look(self) -> bool:
        """Look, unless it was done a moment ago; True when more may be claimed than before."""
        if self.wait() > 0:
            return False
        now = time.monotonic()
        everywhere = now - self._everywhere_at >= _EVERYWHERE_SECONDS
        queues = [*self.queues] if not everywhere else None if self._served is None else [*self._served]
        found: dict[tuple[str, bool], dict[str, int]] = defaultdict(dict)
        for front in await self._engine.fronts(queues, _PLACES):
            found[front.queue, front.late][front.kind] = front.jobs
        known, before = len(self.queues), self._seen
        self.queues |= {queue for (queue, _), front in found.items() if not self._kinds.isdisjoint(front)}
        self._seen = {key: front for key, front in found.items() if key[0] in self.queues}
        self._looked_at = time.monotonic()
        if everywhere:
            self._everywhere_at = self._looked_at
        changed = (
            sum(front.values()) >= _PLACES and found.get(key) != front for key, front in before.items()
        )
        return len(self.queues) > known or any(changed)

    def kinds_in(self, queue: str) -> set[str]:
        """The kinds that were seen at the front of a queue."""
        return {kind for late in (False, True) for kind in self._seen.get((queue, late), ())}
