"""What becomes of a request that brought no vectors.

- 429, or an empty budget: everybody who shares the account pauses, and no attempt counts.
- Refused for its texts: halved until the guilty ones are alone, which are noted as failed.
- No answer, 5xx, an answer that makes no sense: sent again. When other requests go well it is halved too;
when
  none does the provider is left alone for a while, and no attempt counts.
- No money, a wrong key, no such model: the queue is paused with the reason, and a person has to act.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_workers.embed import errors
from docyard_workers.embed.breaker import Breaker
from docyard_workers.embed.packing import works_of
from docyard_workers.embed.stopping import stop_queue

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from docyard_queue import Backoff
    from docyard_schema import Database
    from docyard_workers.embed.allowance import Allowance
    from docyard_workers.embed.lane import Lane
    from docyard_workers.embed.packing import Group
    from docyard_workers.embed.storing import Storing

_log = structlog.get_logger("docyard.embed")

_TRIES = 3
# In the hand of a running job a failed request waits no longer than this before it is tried again.
_LONGEST_BACKOFF = timedelta(seconds=5)
# How much later than others a group comes that found the provider out of order.
_BEHIND_SECONDS = 1.0
# After a 429 that does not say how long, doubled each time.
_COOL_DOWN = timedelta(seconds=1)
_LONGEST_COOL_DOWN = timedelta(minutes=1)


class Setbacks:
    """Deals with the failed requests of one lane."""

    def __init__(
        self, database: Database, lane: Lane, allowance: Allowance, storing: Storing, *, backoff: Backoff
    ) -> None:
        self._database = database
        self._lane = lane
        self._allowance = allowance
        self._storing = storing
        self._backoff = backoff
        self._breaker = Breaker()
        # 429s one after the other that did not say how long to wait, and when the last one came.
        self._cool_downs, self._cooled_at = 0, float("-inf")

    def over(self) -> None:
        """A request was answered."""
        self._breaker.succeeded()
        self._cool_downs = 0

    async def limited(self, group: Group, error: errors.RateLimited) -> None:
        """The provider wants to be left alone."""
        delay = error.retry_after
        if delay is None:
            # Those that were on their way already when the first one came back say nothing new.
            if group.sent_at > self._cooled_at:
                self._cool_downs = min(self._cool_downs + 1, 16)
                self._cooled_at = time.monotonic()
            delay = min(_COOL_DOWN * 2 ** (self._cool_downs - 1), _LONGEST_COOL_DOWN)
        # First here, without waiting for anything: the next request may be about to leave.
        self.cool(group, delay, error.message)
        await note(self._allowance.cool_down(delay, error.message))

    def cool(self, group: Group, delay: timedelta | None, reason: str) -> None:
        """Send nothing for so long (None: a second), then this again."""
        delay = _COOL_DOWN if delay is None else delay
        _log.info("embedding.cooling", seconds=round(delay.total_seconds(), 1), reason=reason)
        self._lane.pause(delay.total_seconds(), reason)
        self._lane.put_back(group)

    async def refused(self, group: Group, error: errors.EmbeddingError) -> None:
        """Something in it is not to the provider's liking."""
        self._breaker.succeeded()
        await self._narrow_down(group, error)

    async def unanswered(self, group: Group, error: errors.EmbeddingError) -> None:
        """Nothing is known against its texts, and nothing came back that could be used."""
        if group.failed_at is not None and self._breaker.worked_since(group.failed_at):
            # What it failed together with others does not count against it.
            group.tries, group.others_worked = (group.tries if group.others_worked else 0), True
        group.failed_at = time.monotonic()
        group.tries += 1
        self._breaker.failed(group.root, group.sent_at)
        is_ours = group.tries >= _TRIES and group.others_worked
        if is_ours and not isinstance(error, errors.WrongDimension):
            await self._narrow_down(group, error)
        elif self._breaker.is_open:
            delay = timedelta(seconds=self._breaker.open())
            _log.warning("embedding.provider_down", error=error.message, seconds=delay.total_seconds())
            # Others go first after the pause: were it always the same, a bad one would keep all back.
            group.due = time.monotonic() + delay.total_seconds() + _BEHIND_SECONDS
            self.cool(group, delay, error.message)
            await note(self._allowance.cool_down(delay, error.message))
        elif group.tries < _TRIES:
            wait = min(self._backoff.delay(group.tries), _LONGEST_BACKOFF)
            _log.info("embedding.retried", error=error.message, seconds=round(wait.total_seconds(), 1))
            group.due = time.monotonic() + wait.total_seconds()
            self._lane.put_back(group)
        elif isinstance(error, errors.WrongDimension):
            await self.stop(group, error)
        else:
            self.fail(group, error)

    async def stop(self, group: Group, error: errors.EmbeddingError) -> None:
        """Only a person can mend it: the jobs' queues are paused, and they wait there."""
        queues = {work.queue for work in works_of([*group.entries, *self._lane.entries.values()])}
        # Nothing leaves any more, and no job is given back before its queue is paused.
        with self._lane.held():
            for queue in sorted(queues):
                await stop_queue(self._database, queue, error)
            self._lane.give_back(timedelta(0), error.message)
            self._lane.let_go(group.entries, timedelta(0), error.message)

    def fail(self, group: Group, error: Exception) -> None:
        """The attempts fail; what else they wait for is no longer wanted by them."""
        self._lane.forget(group.entries)
        for work in works_of(group.entries):
            work.end(error)

    async def _narrow_down(self, group: Group, error: errors.EmbeddingError) -> None:
        """Halve it; of a single text note why it has no vector."""
        if group.failed_at is None:
            group.failed_at = time.monotonic()
        if len(group.entries) > 1:
            _log.info("embedding.halved", texts=len(group.entries), reason=error.message)
            for half in group.halves():
                self._lane.put_back(half)
            return
        _log.warning("embedding.text_refused", chunk_id=group.wants[0][1], error=error.message)
        for work, _ in group.wants:
            work.failed += 1
        with self._lane.storing(group.entries):
            failures = [(chunk, error.code, error.message) for _, chunk in group.wants]
            await self._storing.store(group.wants, failures=failures)


async def note(telling: Awaitable[None]) -> None:
    """Do what is only bookkeeping: vectors that are paid for are not lost for its sake."""
    try:
        await telling
    except DATABASE_ERRORS as error:
        _log.warning("embedding.not_noted", error=brief(error))
