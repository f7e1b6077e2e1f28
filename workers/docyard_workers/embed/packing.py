"""Texts of many jobs in one line, cut into requests that are as full as the provider's limits allow."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docyard_workers.embed.providers import ProviderLimits
    from docyard_workers.embed.work import Work


@dataclass(slots=True, eq=False)
class Entry:
    """One text, once, however many chunks want its vector; ``tokens`` is an estimate.

    The text itself is read when it is sent. ``wants`` are (work, chunk id); ``collection`` is who pays.
    """

    content_hash: bytes
    tokens: int
    collection: str
    wants: list[tuple[Work, int]] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether any job still waits for it."""
        return any(not work.is_over for work, _ in self.wants)


@dataclass(slots=True, eq=False)
class Group:
    """The texts of one request. What it is halved into has the same ``root``; ``tries`` failed so far, and
    ``others_worked`` says that requests of other texts went well meanwhile.

    ``due``, ``sent_at`` and ``failed_at`` are moments of :func:`time.monotonic`; ``failed_at`` of its last
    failure.
    """

    entries: list[Entry]
    root: object = field(default_factory=object)
    tries: int = 0
    due: float = 0.0
    sent_at: float = 0.0
    failed_at: float | None = None
    others_worked: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known against it: it may be put back among the others."""
        return self.failed_at is None

    @property
    def wants(self) -> list[tuple[Work, int]]:
        """All that it answers, as (work, chunk id)."""
        return [want for entry in self.entries for want in entry.wants]

    def halves(self) -> tuple[Group, Group]:
        """Two groups that are sent by themselves, to find out which of them has the guilty text."""
        middle = len(self.entries) // 2
        first = replace(self, entries=self.entries[:middle], tries=0, due=0.0)
        return first, replace(first, entries=self.entries[middle:])


class Packer:
    """First in, first out. ``scale`` is how many of the provider's tokens an estimated one is, at least 1."""

    def __init__(self, limits: ProviderLimits) -> None:
        self.scale = 1.0
        self._limits = limits
        self._line: deque[Entry] = deque()
        self._tokens = 0
        self._oldest = 0.0

    def __len__(self) -> int:
        return len(self._line)

    @property
    def age(self) -> float:
        """Seconds since the oldest text came, or since the last request was cut; 0 when there is none."""
        return time.monotonic() - self._oldest if self._line else 0.0

    @property
    def is_full(self) -> bool:
        """Whether no more fits into the next request."""
        return (
            len(self._line) >= self._limits.max_texts_per_request
            or self._tokens * self.scale > self._limits.max_tokens_per_request
        )

    def add(self, entry: Entry) -> None:
        """To the end of the line."""
        if not self._line:
            self._oldest = time.monotonic()
        self._line.append(entry)
        self._tokens += entry.tokens

    def put_back(self, entries: Sequence[Entry]) -> None:
        """To the front, in their order."""
        if not self._line:
            self._oldest = time.monotonic()
        self._line.extendleft(reversed(entries))
        self._tokens += sum(entry.tokens for entry in entries)

    def cut(self) -> list[Entry]:
        """The next request's texts: as many as the limits allow, at least one if there is any."""
        taken: list[Entry] = []
        tokens = 0
        while self._line and len(taken) < self._limits.max_texts_per_request:
            size = self._line[0].tokens
            if taken and (tokens + size) * self.scale > self._limits.max_tokens_per_request:
                break
            taken.append(self._line.popleft())
            tokens += size
        self._tokens -= tokens
        self._oldest = time.monotonic()
        return taken

    def drop_unwanted(self) -> list[Entry]:
        """Take out what no job waits for any more; what that was."""
        dropped = [entry for entry in self._line if not entry.is_wanted]
        if dropped:
            self._line = deque(entry for entry in self._line if entry.is_wanted)
            self._tokens = sum(entry.tokens for entry in self._line)
        return dropped

    def empty(self) -> list[Entry]:
        """Take out all there is."""
        taken = [*self._line]
        self._line.clear()
        self._tokens = 0
        return taken


def works_of(entries: Iterable[Entry]) -> list[Work]:
    """The jobs that wait for any of these, each once."""
    return [*dict.fromkeys(work for entry in entries for work, _ in entry.wants if not work.is_over)]


def payers(entries: Iterable[Entry]) -> dict[str, float]:
    """How many of these texts' tokens each collection brought."""
    counted: dict[str, float] = {}
    for entry in entries:
        counted[entry.collection] = counted.get(entry.collection, 0.0) + entry.tokens
    return counted
