"""Requests and tokens per minute, as a provider enforces them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class RateLimit:
    """A token bucket: ``per_minute`` units flow in evenly; ``window`` seconds' worth of them can be saved up.

    A provider's window is a minute or less; a test's may be a second, so that nothing takes a minute.
    """

    per_minute: float
    window: float = 60.0
    _left: float = field(init=False)
    _at: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._left = self.capacity
        self._at = time.monotonic()

    @property
    def capacity(self) -> float:
        return self.per_minute * self.window / 60

    def take(self, units: float) -> float:
        """Take them and give 0, or take nothing and give the seconds until they would be there.

        More than the bucket holds is let pass when it is full, for it could never come otherwise.
        """
        with self._lock:
            now = time.monotonic()
            rate = self.per_minute / 60
            self._left = min(self.capacity, self._left + (now - self._at) * rate)
            self._at = now
            needed = min(units, self.capacity)
            if self._left >= needed:
                self._left -= units
                return 0.0
            return (needed - self._left) / rate
