"""How fast requests leave: how many at once, how far apart, and when none at all."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# After a pause requests keep a distance, at least and at most: doubled by each pause, a tenth less by each
# answer.
_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 0.5


class Pace:
    """Begins with ``most`` requests at once, and after each pause with one and one more for each answer.

    So a provider that refuses what comes too fast is soon asked as fast as it bears. ``reason`` is that of
    the last pause.
    """

    def __init__(self, most: int) -> None:
        self.reason = ""
        self._most = self._at_once = most
        self._distance = self._sent_at = self._paused_until = 0.0
        self._holds = 0

    @property
    def wait(self) -> float:
        """Seconds until another request may leave, infinite while :meth:`held`; not above 0: now."""
        if self._holds:
            return float("inf")
        return max(self._paused_until, self._sent_at + self._distance) - time.monotonic()

    @property
    def is_careful(self) -> bool:
        """Whether it is not known yet that requests go well again."""
        return self._at_once == 1 < self._most or self._paused_until > self._sent_at

    def has_room(self, travelling: int) -> bool:
        """Whether one more may travel beside these."""
        return travelling < self._at_once

    def sent(self) -> None:
        """A request leaves."""
        self._sent_at = time.monotonic()

    def went_well(self) -> None:
        """A request was answered."""
        self._at_once = min(self._at_once + 1, self._most)
        self._distance = 0.9 * self._distance if self._distance > _SHORTEST_SECONDS / 10 else 0.0

    def pause(self, seconds: float, reason: str) -> None:
        """No request leaves for so long; of two pauses the longer one holds."""
        now = time.monotonic()
        if now >= self._paused_until:
            # Once for all that were on their way.
            self._distance = min(max(2 * self._distance, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        self._paused_until = max(self._paused_until, now + seconds)
        self.reason = reason
        self._at_once = 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside no request leaves."""
        self._holds += 1
        self._at_once = 1
        try:
            yield
        finally:
            self._holds -= 1
