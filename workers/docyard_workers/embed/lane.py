"""A model's lane: texts of many jobs wait in it, travel together, and come back as vectors.

There is one per model and process. It sends a request when that is full, when nothing that runs or could be
claimed would add to it, or when its oldest text has waited long enough; several are on their way at once.
What becomes of each is decided in ``requests.py``.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from docyard_queue import Snooze
from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_workers.embed.pace import Pace
from docyard_workers.embed.packing import Entry, Group, Packer, works_of
from docyard_workers.process.ending import end_tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

    from docyard_schema.embeddings import MissingVector
    from docyard_workers.embed.providers import ProviderLimits
    from docyard_workers.embed.work import Work

_log = structlog.get_logger("docyard.embed")

# A pause that is longer is not waited for with jobs in hand: they are given back and come again after it.
_PATIENCE_SECONDS = 30.0
# How often is looked whether more texts may come: at first, and at last.
_ASK_SECONDS = (0.01, 0.25)
# Answers that are being written: with more of them in memory the database would not be quicker.
_MOST_STORES = 2
# How often is looked whether texts wait that nobody wants any more.
_LOOK_SECONDS = 0.25
# What a close leaves to requests that are on their way: their texts are paid for.
_CLOSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Reading:
    """Somebody reads which texts lack vectors; ``stored`` are those that got one since it began."""

    stored: set[bytes] = field(default_factory=set)


class Lane:
    """Packs and sends. ``send``, set by whoever makes the lane, does one request and all that follows from
    it, and never raises.

    ``may_come`` asks whether more texts may come. ``longest_wait`` in seconds holds for a request that is not
    full.
    """

    send: Callable[[Group], Awaitable[Coroutine[Any, Any, None] | None]]

    def __init__(
        self,
        limits: ProviderLimits,
        *,
        may_come: Callable[[], Awaitable[bool]],
        longest_wait: float,
    ) -> None:
        self.packer = Packer(limits)
        # Texts that wait or travel, and those whose vectors are being written: the same text joins them.
        self.entries: dict[bytes, Entry] = {}
        self._storing: dict[bytes, asyncio.Future[None]] = {}
        self._limits = limits
        self._may_come = may_come
        self._longest_wait = longest_wait
        self._again: list[Group] = []
        self._readings: list[Reading] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._stores: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._pace = Pace(limits.parallel_requests)
        self._ask_every, self._ask_at, self._nothing_came = _ASK_SECONDS[0], 0.0, False
        self._looked_at = 0.0

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Around a look at which texts lack vectors and the :meth:`add` that follows; nothing unfull is sent
        meanwhile.
        """
        reading = Reading()
        self._readings.append(reading)
        try:
            yield reading
        finally:
            self._readings.remove(reading)
            self._changed.set()

    def overtaken(
        self, missing: Sequence[MissingVector], reading: Reading
    ) -> list[asyncio.Future[None]] | None:
        """What to wait for before looking again, because texts have got their vectors since; None: nothing.

        Without it a text would be sent a second time whose vector was written between the look and the add.
        """
        hashes = {chunk.content_hash for chunk in missing}
        awaited = [self._storing[one] for one in hashes & self._storing.keys()]
        return awaited if awaited or not hashes.isdisjoint(reading.stored) else None

    def add(self, missing: Sequence[MissingVector], works: Callable[[MissingVector], Sequence[Work]]) -> None:
        """Take in texts, each for the jobs that want it."""
        for chunk in missing:
            entry = self.entries.get(chunk.content_hash)
            if entry is None:
                entry = Entry(chunk.content_hash, chunk.token_count, chunk.collection)
                self.entries[chunk.content_hash] = entry
                self.packer.add(entry)
            for work in works(chunk):
                work.left += 1
                entry.wants.append((work, chunk.chunk_id))
        self._ask_every, self._ask_at, self._nothing_came = _ASK_SECONDS[0], 0.0, False
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        self._changed.set()

    def put_back(self, group: Group) -> None:
        """Send a group again, later: among the others if nothing is known against it, else by itself."""
        if group.is_whole:
            self.packer.put_back(group.entries)
        else:
            self._again.append(group)
        self._changed.set()

    def pause(self, seconds: float, reason: str) -> None:
        """Send nothing for so long, then one request, and one more at once for each that goes well."""
        self._pace.pause(seconds, reason)
        self._changed.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside nothing is sent; after it one request at first."""
        try:
            with self._pace.held():
                yield
        finally:
            self._changed.set()

    def went_well(self) -> None:
        """A request was answered."""
        self._pace.went_well()
        self._changed.set()

    def forget(self, entries: Sequence[Entry]) -> None:
        """These are neither waiting nor travelling any more."""
        for entry in entries:
            self.entries.pop(entry.content_hash, None)

    @contextmanager
    def storing(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Around the write of these texts' vectors: they neither wait nor travel any more, and whoever has
        read meanwhile that they are missing looks again.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.forget(entries)
        for entry in entries:
            self._storing[entry.content_hash] = future
        try:
            yield
            for reading in self._readings:
                reading.stored.update(entry.content_hash for entry in entries)
        finally:
            for entry in entries:
                if self._storing.get(entry.content_hash) is future:
                    del self._storing[entry.content_hash]
            future.set_result(None)

    def give_back(self, delay: timedelta, reason: str) -> None:
        """Let all that waits go: its jobs come again after ``delay``, the attempt does not count."""
        groups, self._again = self._again, []
        entries = [*self.packer.empty(), *(entry for group in groups for entry in group.entries)]
        self.let_go(entries, delay, reason)

    def let_go(self, entries: Sequence[Entry], delay: timedelta, reason: str) -> None:
        """The same for these."""
        self.forget(entries)
        for work in works_of(entries):
            work.end(Snooze(delay, reason))

    async def close(self) -> None:
        """Send no more; wait a little for what is on its way."""
        if self._pump is not None:
            await end_tasks([self._pump], seconds=1)
        for tasks in (self._requests, self._stores):
            if tasks:
                _, unfinished = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
                await end_tasks([*unfinished], seconds=1)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            seconds = await self._step()
            if seconds is not None and seconds <= 0:
                continue
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _step(self) -> float | None:
        """Send what can be sent; the seconds until there may be more to do, None: when something changes."""
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._drop_unwanted()
        if not self.packer and not self._again:
            return None
        pause = self._pace.wait
        if _PATIENCE_SECONDS < pause < math.inf:
            self.give_back(timedelta(seconds=pause), self._pace.reason)
            return None
        if pause > 0:
            return None if pause == math.inf else pause
        if not self._pace.has_room(len(self._requests)) or len(self._stores) >= _MOST_STORES:
            return None
        group, wait = self._next_again()
        if group is None and self.packer:
            seconds = await self._until_cut()
            if seconds > 0:
                return min(seconds, wait)
            # Somebody may have emptied it while we asked.
            group = Group(self.packer.cut()) if self.packer else None
        if group is None:
            return wait if wait != math.inf else 0
        self._send(group)
        return 0

    def _next_again(self) -> tuple[Group | None, float]:
        """A group that is due to be sent again, and the seconds until there is one."""
        now = time.monotonic()
        # To see whether the provider works again, what has failed already is a bad question.
        probing = self._pace.is_careful and len(self.packer) > 0
        for position, group in enumerate(self._again):
            if group.due <= now and not (probing and group.tries):
                return self._again.pop(position), 0
        waits = [group.due - now for group in self._again if group.due > now]
        return None, min(waits, default=math.inf)

    async def _until_cut(self) -> float:
        """The seconds until what waits is to be sent; 0: now."""
        left = self._longest_wait - self.packer.age
        if self.packer.is_full or left <= 0:
            return 0
        if self._readings:
            return left
        pause = self._ask_at - time.monotonic()
        if pause > 0:
            return min(left, pause)
        if not await self._more_may_come():
            # Twice: a job is on its way between its claim and its look at what it lacks.
            if self._nothing_came:
                return 0
            self._nothing_came, self._ask_at = True, time.monotonic() + _ASK_SECONDS[0]
            return min(left, _ASK_SECONDS[0])
        self._nothing_came = False
        self._ask_at = time.monotonic() + self._ask_every
        self._ask_every = min(self._ask_every * 1.5, _ASK_SECONDS[1])
        return min(left, self._ask_every)

    async def _more_may_come(self) -> bool:
        try:
            return await self._may_come()
        except DATABASE_ERRORS as error:
            _log.warning("embedding.look_failed", error=brief(error))
            return True

    def _send(self, group: Group) -> None:
        self._pace.sent()
        self._start(self._requests, self._sent(group))

    async def _sent(self, group: Group) -> None:
        storing = await self.send(group)
        if storing is not None:
            self._start(self._stores, storing)

    def _start(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            # In this order: woken while it still counts, the pump would see no room, and sleep for good.
            tasks.discard(task)
            self._changed.set()

        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(ended)

    def _drop_unwanted(self) -> None:
        self._looked_at = time.monotonic()
        dropped = self.packer.drop_unwanted()
        self.forget(dropped)
        for entry in dropped:
            for work, _ in entry.wants:
                work.end()
