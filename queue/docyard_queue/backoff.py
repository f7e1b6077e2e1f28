"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from docyard_schema.errors import ConfigError

_MAXIMUM_DOUBLINGS = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with a cap and full jitter.

    After attempt n the ceiling is ``min(cap, base * 2**(n - 1))``; with ``jitter`` (the default) the wait
    is drawn evenly between zero and it, which spreads a crowd of retries best (M. Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015). ``Backoff(base=timedelta(0))`` retries at once.
    """

    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=15)
    jitter: bool = True

    def __post_init__(self) -> None:
        for name in ("base", "cap"):
            if getattr(self, name) < timedelta(0):
                raise ConfigError(f"A backoff's {name} is not below zero, got {getattr(self, name)}.")

    def delay(self, attempt: int) -> timedelta:
        """The wait after ``attempt`` (counted from 1) failed; never longer than the cap."""
        ceiling = self.ceiling(attempt)
        # Not a secret: chance only spreads the crowd.
        return ceiling * random.random() if self.jitter else ceiling  # noqa: S311

    def ceiling(self, attempt: int) -> timedelta:
        """The longest wait after ``attempt``."""
        seconds = self.base.total_seconds() * 2.0 ** min(max(attempt - 1, 0), _MAXIMUM_DOUBLINGS)
        return self.cap if seconds >= self.cap.total_seconds() else timedelta(seconds=seconds)
