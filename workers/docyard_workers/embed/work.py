"""One job's texts on their way: how many are still to come, and what the job is told at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from docyard_queue import Attempt
    from docyard_queue.outcomes import Outcome


class Work:
    """What one attempt of an ``embed`` or ``backfill`` job waits for.

    ``settle`` is told how the attempt ends, unless it was completed together with its vectors. ``over`` is
    done when it has ended either way.
    """

    def __init__(self, attempt: Attempt, settle: Callable[[Outcome | BaseException], None]) -> None:
        self.attempt = attempt
        self.reused = self.embedded = self.failed = self.tokens = 0
        # Chunks without an answer, and how many transactions with answers are under way.
        self.left = self.writing = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settle = settle

    @property
    def queue(self) -> str:
        """The queue that its job came from."""
        return self.attempt.job.queue

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its texts any more: ended, cancelled, or another worker has the job."""
        return self.over.done() or self.attempt.ended

    def end(self, outcome: Outcome | BaseException | None = None) -> None:
        """The attempt has ended; None: it was completed in the transaction that wrote its last vectors."""
        if self.over.done():
            return
        self.over.set_result(None)
        if outcome is not None and not self.attempt.ended:
            self._settle(outcome)

    def result(self, cost_of: Callable[[int], Decimal | None]) -> dict[str, Any]:
        """What is kept as the job's result; ``cost`` is US dollars as a decimal string, None if unknown."""
        cost = cost_of(self.tokens)
        return {
            "embedded": self.embedded,
            "reused": self.reused,
            "failed": self.failed,
            "tokens": self.tokens,
            "cost": None if cost is None else format(cost.normalize(), "f"),
        }
