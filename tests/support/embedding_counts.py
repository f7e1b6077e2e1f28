"""What the embedding server was asked, and whether it should have been."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request; it arrived ``at`` and was ``answered`` by ``time.monotonic()``."""

    at: float
    answered: float
    texts: int
    tokens: int
    status: int
    retry_after: float | None = None


@dataclass(slots=True)
class Counts:
    """What the server was asked since it started or was last reset."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    log: list[Exchange] = field(default_factory=list)

    @property
    def sent_again(self) -> dict[str, int]:
        """Texts that came more than once, in whatever became of it, and how often."""
        return {text: times for text, times in self.sent.items() if times > 1}

    @property
    def embedded_again(self) -> dict[str, int]:
        """Texts whose vectors were given more than once, and how often: paid for twice."""
        return {text: times for text, times in self.embedded.items() if times > 1}

    def during_cooldown(self, grace: float = 0.0) -> int:
        """Requests that arrived while a 429's ``Retry-After`` ran, from ``grace`` seconds into it.

        With no grace it is strict: a request that was on its way when the 429 was answered counts too.
        """
        spans = [
            (e.answered + grace, e.answered + e.retry_after) for e in self.log if e.retry_after is not None
        ]
        return sum(any(start < e.at < end for start, end in spans) for e in self.log)

    def minimum(self, max_texts: int, max_tokens: int) -> int:
        """The fewest requests of those limits that the texts with vectors could have come in."""
        done = [exchange for exchange in self.log if exchange.status == 200]
        texts, tokens = sum(e.texts for e in done), sum(e.tokens for e in done)
        return max(-(-texts // max_texts), -(-tokens // max_tokens))

    def summary(self) -> dict[str, Any]:
        """The numbers, for another process."""
        return {
            "requests": self.requests,
            "texts": self.texts,
            "tokens": self.tokens,
            "statuses": {str(status): times for status, times in self.statuses.items()},
            "sent_again": len(self.sent_again),
            "embedded": len(self.embedded),
            "embedded_again": len(self.embedded_again),
            "most_at_once": self.most_at_once,
            "during_cooldown": self.during_cooldown(),
            "first_at": self.log[0].at if self.log else None,
            "last_answered": max((exchange.answered for exchange in self.log), default=None),
        }
