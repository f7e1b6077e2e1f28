"""How many requests a folder needs, by the rule that decides when texts travel: a discrete-event simulation.

``python -m benchmarks.embed.tables`` prints the tables of ``docs/design/coalescing.md``. Nothing is
measured here but the sizes of the documents: those of the demo's corpus, cut by docyard's own chunking
(chunks of a document: lognormal, ln mean 2.51, ln deviation 1.15; tokens of a chunk: 228 ± 74).
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TEXTS = 2_048
MAX_TOKENS = 300_000

Document = tuple[int, ...]
"""The tokens of each of its texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A rule and its surroundings.

    ``rule``: ``claim`` packs the texts of each claim of ``jobs_per_claim`` jobs by themselves; ``stream``
    packs those of all jobs of a process, ``queue`` those of all jobs of the fleet. The two wait for more
    until a request is full, until nothing could be added (unless ``notices_the_end`` is False), or until
    ``longest_wait`` seconds have passed since the oldest text came. ``rate`` is the chunks per second that
    all processes together ingest; ``None``: everything is ingested already. ``in_hand`` is how many texts a
    process holds at most; ``seconds_per_text`` what the client computes for each, one after another.
    """

    rule: Literal["claim", "stream", "queue"] = "stream"
    jobs_per_claim: int = 1
    longest_wait: float = 5.0
    notices_the_end: bool = True
    rate: float | None = 500.0
    processes: int = 1
    parallel: int = 4
    latency: float = 0.05
    in_hand: int = 16_384
    seconds_per_text: float = 0.0002


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it; times in seconds. ``waits`` are the documents' own, from ingested to all written."""

    requests: int
    minimum: int
    seconds: float
    ideal: float
    most_held: int
    waits: Sequence[float]

    @property
    def ratio(self) -> float:
        """Requests for each one that the limits make necessary."""
        return self.requests / self.minimum

    def wait(self, share: float) -> float:
        """The wait that this share of the documents does not exceed."""
        return sorted(self.waits)[math.ceil(share * len(self.waits)) - 1]


def a_folder(documents: int, seed: int = 1) -> list[Document]:
    """Documents of the sizes that real ones have."""
    chance = random.Random(seed)
    return [
        tuple(
            min(300, max(10, round(chance.gauss(228, 74))))
            for _ in range(max(1, round(chance.lognormvariate(2.51, 1.15))))
        )
        for _ in range(documents)
    ]


def minimum_requests(texts: int, tokens: int) -> int:
    """What the limits of a request allow at best."""
    return math.ceil(max(texts / MAX_TEXTS, tokens / MAX_TOKENS))


@dataclass(slots=True)
class _Packer:
    """Texts on their way into a request; each is (document, tokens)."""

    texts: list[int] = field(default_factory=list)
    tokens: int = 0
    oldest: float = math.inf

    def add(self, number: int, tokens: int, now: float) -> list[int] | None:
        """The request that was full without this text, if it was."""
        full = None
        if len(self.texts) == MAX_TEXTS or self.tokens + tokens > MAX_TOKENS:
            full = self.take()
        self.texts.append(number)
        self.tokens += tokens
        self.oldest = min(self.oldest, now)
        return full

    def take(self) -> list[int]:
        taken, self.texts, self.tokens, self.oldest = self.texts, [], 0, math.inf
        return taken


@dataclass(slots=True)
class _Process:
    packer: _Packer = field(default_factory=_Packer)
    ready: deque[list[int]] = field(default_factory=deque)
    in_flight: int = 0
    held: int = 0
    busy_until: float = 0.0


class Simulation:
    """One run of a scenario over a folder."""

    def __init__(self, scenario: Scenario, folder: Sequence[Document]) -> None:
        self._scenario = scenario
        self._folder = folder
        self._processes = [_Process() for _ in range(scenario.processes)]
        self._queue: deque[int] = deque()
        self._events: list[tuple[float, int, str, int, list[int]]] = []
        self._order = count()
        self._chance = random.Random(2)
        self._to_ingest = len(folder)
        self._now = self._ended = 0.0
        self._requests = self._most_held = 0
        self._left = [len(document) for document in folder]
        self._came = [0.0] * len(folder)
        self._waits = [0.0] * len(folder)
        self._claims = {"claim": self._claim_by_job, "stream": self._claim_all, "queue": self._claim_full}

    def run(self) -> Outcome:
        """Until every text has its vector."""
        moment = 0.0
        for number, document in enumerate(self._folder):
            moment += len(document) / self._scenario.rate if self._scenario.rate else 0.0
            self._at(moment, "ingested", number)
        while self._events:
            self._now, _, what, number, texts = heapq.heappop(self._events)
            getattr(self, f"_{what}")(number, texts)
            if not self._events or self._events[0][0] > self._now:
                self._go_on()
        all_texts = sum(map(len, self._folder))
        return Outcome(
            requests=self._requests,
            minimum=minimum_requests(all_texts, sum(map(sum, self._folder))),
            seconds=self._ended,
            ideal=self._requests * self._scenario.latency / self._scenario.parallel / len(self._processes),
            most_held=self._most_held,
            waits=self._waits,
        )

    def _at(self, moment: float, what: str, number: int, texts: list[int] | None = None) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what, number, texts or []))

    def _ingested(self, number: int, _: list[int]) -> None:
        self._to_ingest -= 1
        self._came[number] = self._now
        self._queue.append(number)
        self._at(self._now + self._scenario.longest_wait, "due", number)

    def _due(self, _: int, __: list[int]) -> None:
        """Nothing of its own: what follows every moment looks at what has waited long enough."""

    def _answered(self, number: int, texts: list[int]) -> None:
        process = self._processes[number]
        process.in_flight -= 1
        process.busy_until = max(self._now, process.busy_until) + len(texts) * self._scenario.seconds_per_text
        self._at(process.busy_until, "written", number, texts)

    def _written(self, number: int, texts: list[int]) -> None:
        self._ended = self._now
        self._processes[number].held -= len(texts)
        for document in texts:
            self._left[document] -= 1
            if not self._left[document]:
                self._waits[document] = self._now - self._came[document]

    def _go_on(self) -> None:
        self._claims[self._scenario.rule]()
        for number, process in enumerate(self._processes):
            while process.ready and process.in_flight < self._scenario.parallel:
                process.in_flight += 1
                self._requests += 1
                self._at(self._now + self._scenario.latency, "answered", number, process.ready.popleft())
        self._most_held = max(self._most_held, *(process.held for process in self._processes))

    def _take(self, process: _Process) -> None:
        number = self._queue.popleft()
        for tokens in self._folder[number]:
            if full := process.packer.add(number, tokens, self._now):
                process.ready.append(full)
        process.held += len(self._folder[number])
        self._at(self._now + self._scenario.longest_wait, "due", number)

    def _has_room(self, process: _Process) -> bool:
        return not process.held or process.held + len(self._folder[self._queue[0]]) <= self._scenario.in_hand

    def _flush(self, process: _Process) -> None:
        if process.packer.texts:
            process.ready.append(process.packer.take())

    def _claim_by_job(self) -> None:
        for process in self._shuffled():
            while self._queue and process.in_flight + len(process.ready) < self._scenario.parallel:
                for _ in range(min(self._scenario.jobs_per_claim, len(self._queue))):
                    self._take(process)
                self._flush(process)

    def _claim_all(self) -> None:
        while self._queue:
            roomy = [process for process in self._processes if self._has_room(process)]
            if not roomy:
                break
            self._take(self._chance.choice(roomy))
        ended = self._scenario.notices_the_end and not self._to_ingest and not self._queue
        for process in self._processes:
            if process.ready or process.in_flight == self._scenario.parallel:
                continue  # a request more would only wait; the texts may as well gather company
            due = self._now - process.packer.oldest > self._scenario.longest_wait - 1e-9
            stuck = self._queue and process.held == len(process.packer.texts) and not self._has_room(process)
            if ended or due or stuck:
                self._flush(process)

    def _claim_full(self) -> None:
        """Texts gather in the queue; a process claims a whole request, or what has waited long enough."""
        for process in self._shuffled():
            while process.in_flight + len(process.ready) < self._scenario.parallel:
                packer = process.packer
                first = self._came[self._queue[0]] if self._queue else math.inf
                due = self._now - min(packer.oldest, first) > self._scenario.longest_wait - 1e-9
                ended = self._scenario.notices_the_end and not self._to_ingest
                if not (self._queue or packer.texts) or not (ended or due or self._fills(packer)):
                    break
                before = len(process.ready)
                while self._queue and len(process.ready) == before:
                    self._take(process)
                if len(process.ready) == before:
                    self._flush(process)

    def _fills(self, packer: _Packer) -> bool:
        texts, tokens = len(packer.texts), packer.tokens
        for number in self._queue:
            texts += len(self._folder[number])
            tokens += sum(self._folder[number])
            if texts > MAX_TEXTS or tokens > MAX_TOKENS:
                return True
        return False

    def _shuffled(self) -> list[_Process]:
        return self._chance.sample(self._processes, len(self._processes))
