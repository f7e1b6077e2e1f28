"""One request: its texts are read, paid for, sent, and whatever comes back is dealt with.

- vectors: stored, together with the completion of the jobs that now have all of theirs (``storing.py``);
- 429, or an empty budget: everybody who shares the account pauses, and no attempt counts;
- refused for its texts: halved until the guilty ones are alone, which are noted as failed;
- no answer, 5xx, an answer that makes no sense: tried again; when other requests go well it is halved too,
when
  none does the provider is left alone for a while, and no attempt counts;
- no money, a wrong key, no such model: the queue is paused with the reason, and a person has to act.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from docyard_queue import RateLimited
from docyard_queue.outage import brief
from docyard_schema.embeddings import NewVector
from docyard_workers.embed import errors
from docyard_workers.embed.breaker import Breaker
from docyard_workers.embed.packing import Group, payers, works_of
from docyard_workers.embed.stopping import stop_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue import Backoff
    from docyard_schema import Database, VectorRepository
    from docyard_workers.embed.allowance import Allowance, Reserved
    from docyard_workers.embed.lane import Lane
    from docyard_workers.embed.packing import Entry
    from docyard_workers.embed.providers import Embedded, EmbeddingProvider
    from docyard_workers.embed.storing import Storing

_log = structlog.get_logger("docyard.embed")

_TRIES = 3
# In the hand of a running job a failed request waits no longer than this before it is tried again.
_LONGEST_BACKOFF = timedelta(seconds=5)
# After a 429 that does not say how long, doubled each time.
_COOL_DOWN = timedelta(seconds=1)
_LONGEST_COOL_DOWN = timedelta(minutes=1)

_STOPPING = (errors.QuotaExhausted, errors.ProviderRefused, errors.ModelNotFound)


class Requests:
    """Sends the groups of one lane; ``lane`` is set by whoever made both."""

    lane: Lane

    def __init__(
        self,
        database: Database,
        provider: EmbeddingProvider,
        allowance: Allowance,
        vectors: VectorRepository,
        storing: Storing,
        *,
        backoff: Backoff,
    ) -> None:
        self._database = database
        self._provider = provider
        self._allowance = allowance
        self._vectors = vectors
        self._storing = storing
        self._backoff = backoff
        self._breaker = Breaker()
        # 429s one after the other that did not say how long to wait, and when the last one came.
        self._cool_downs, self._cooled_at = 0, float("-inf")

    async def send(self, group: Group) -> None:
        """Send one group. Never raises: what went wrong is told to the jobs that wait for it."""
        try:
            texts = await self._texts(group)
            if texts:
                await self._ask(group, texts)
        except Exception as error:  # noqa: BLE001 - whatever it was, no job may wait for ever
            _log.warning("embedding.failed", texts=len(group.entries), error=brief(error))
            self._fail(group, error)

    async def _texts(self, group: Group) -> list[str]:
        """The group's texts; what no chunk has any more leaves the group, what does not fit waits on."""
        found = await self._vectors.texts([entry.wants[0][1] for entry in group.entries])
        gone = [entry for entry in group.entries if entry.wants[0][1] not in found]
        if gone:
            await self._vanished(group, gone)
        texts = [found[entry.wants[0][1]] for entry in group.entries]
        tokens = 0
        for position, text in enumerate(texts):
            tokens += self._provider.count_tokens(text)
            if position and tokens > self._provider.limits.max_tokens_per_request:
                # Estimated by the database, counted by the provider.
                rest = Group(group.entries[position:], group.root, group.tries, failed_at=group.failed_at)
                group.entries = group.entries[:position]
                self.lane.put_back(rest)
                return texts[:position]
        return texts

    async def _vanished(self, group: Group, gone: Sequence[Entry]) -> None:
        """Chunks were removed by an edit since; perhaps another chunk has the same text."""
        group.entries = [entry for entry in group.entries if entry not in gone]
        answered = [entry.wants.pop(0) for entry in gone]
        self.lane.forget([entry for entry in gone if not entry.wants])
        self.lane.put_back(Group([entry for entry in gone if entry.wants]))
        await self._storing.store(answered)

    async def _ask(self, group: Group, texts: list[str]) -> None:
        tokens = sum(self._provider.count_tokens(text) for text in texts)
        try:
            reserved = await self._allowance.reserve(tokens)
        except RateLimited as error:
            self._cool(group, error.retry_after or _COOL_DOWN, brief(error))
            return
        group.sent_at = time.monotonic()
        try:
            answer = await self._provider.embed(texts)
        except errors.RateLimited as error:
            await self._limited(group, reserved, error)
        except errors.TextRefused as error:
            await self._allowance.give_back(reserved)
            self._breaker.succeeded()
            await self._refused(group, error)
        except _STOPPING as error:
            await self._allowance.give_back(reserved)
            await self._stop(group, error)
        except errors.EmbeddingError as error:
            # It may have been counted, and cannot be asked: what was reserved counts as used.
            await self._allowance.settle(reserved, tokens=tokens, shares=payers(group.entries))
            await self._unanswered(group, error)
        else:
            self._cool_downs = 0
            self._breaker.succeeded()
            self.lane.went_well()
            self.lane.packer.scale = max(self.lane.packer.scale, answer.tokens / max(1, tokens))
            await self._allowance.settle(reserved, tokens=answer.tokens, shares=payers(group.entries))
            await self._store(group, answer)

    async def _store(self, group: Group, answer: Embedded) -> None:
        vectors: list[NewVector] = []
        failures: list[tuple[int, str, str]] = []
        estimate = sum(entry.tokens for entry in group.entries) or 1
        counted = told = 0
        for position, (entry, vector) in enumerate(zip(group.entries, answer.vectors, strict=True)):
            # Each text's part, rounded so that the parts add up.
            counted += entry.tokens
            tokens = answer.tokens * counted // estimate - told
            told += tokens
            for number, (work, chunk) in enumerate(entry.wants):
                if vector is None:
                    failure = answer.failures[position]
                    failures.append((chunk, failure.code, failure.message))
                    work.failed += 1
                else:
                    vectors.append(
                        NewVector(chunk_id=chunk, content_hash=entry.content_hash, embedding=vector)
                    )
                    work.embedded += number == 0
                    work.reused += number > 0
                work.tokens += tokens if number == 0 else 0
        await self._stored(group, vectors, failures)

    async def _stored(
        self, group: Group, vectors: Sequence[NewVector], failures: Sequence[tuple[int, str, str]]
    ) -> None:
        future = self.lane.begin_storing(group.entries)
        stored = False
        try:
            await self._storing.store(
                [want for entry in group.entries for want in entry.wants], vectors, failures
            )
            stored = True
        finally:
            self.lane.end_storing(group.entries, future, stored=stored)

    async def _limited(self, group: Group, reserved: Reserved, error: errors.RateLimited) -> None:
        delay = error.retry_after
        if delay is None:
            # Those that were on their way already when the first one came back say nothing new.
            if group.sent_at > self._cooled_at:
                self._cool_downs = min(self._cool_downs + 1, 16)
                self._cooled_at = time.monotonic()
            delay = min(_COOL_DOWN * 2 ** (self._cool_downs - 1), _LONGEST_COOL_DOWN)
        # First here, without waiting for anything: the next request may be about to leave.
        self._cool(group, delay, error.message)
        await self._allowance.cool_down(delay, error.message)
        await self._allowance.give_back(reserved)

    def _cool(self, group: Group, delay: timedelta, reason: str) -> None:
        _log.info("embedding.cooling", seconds=round(delay.total_seconds(), 1), reason=reason)
        self.lane.pause(delay.total_seconds(), reason)
        self.lane.put_back(group)

    async def _refused(self, group: Group, error: errors.EmbeddingError) -> None:
        if group.failed_at is None:
            group.failed_at = time.monotonic()
        if len(group.entries) > 1:
            _log.info("embedding.halved", texts=len(group.entries), reason=error.message)
            for half in group.halves():
                self.lane.put_back(half)
            return
        [entry] = group.entries
        _log.warning("embedding.text_refused", chunk_id=entry.wants[0][1], error=error.message)
        failures = [(chunk, error.code, error.message) for _, chunk in entry.wants]
        for work, _ in entry.wants:
            work.failed += 1
        await self._stored(group, [], failures)

    async def _unanswered(self, group: Group, error: errors.EmbeddingError) -> None:
        group.tries += 1
        if group.failed_at is None:
            group.failed_at = time.monotonic()
        self._breaker.failed(group.root, group.sent_at)
        if self._breaker.is_open:
            delay = timedelta(seconds=self._breaker.open())
            _log.warning("embedding.provider_down", error=error.message, seconds=delay.total_seconds())
            group.tries = 0
            self._cool(group, delay, error.message)
            await self._allowance.cool_down(delay, error.message)
        elif group.tries < _TRIES:
            wait = min(self._backoff.delay(group.tries), _LONGEST_BACKOFF)
            _log.info("embedding.retried", error=error.message, seconds=round(wait.total_seconds(), 1))
            group.due = time.monotonic() + wait.total_seconds()
            self.lane.put_back(group)
        elif isinstance(error, errors.WrongDimension):
            await self._stop(group, error)
        elif self._breaker.worked_since(group.failed_at):
            await self._refused(group, error)
        else:
            self._fail(group, error)

    async def _stop(self, group: Group, error: errors.EmbeddingError) -> None:
        """Only a person can mend it: their queues are paused, and the jobs wait there."""
        queues = {work.queue for work in works_of([*group.entries, *self.lane.entries.values()])}
        # Nothing leaves any more, and no job is given back before its queue is paused.
        with self.lane.held():
            for queue in sorted(queues):
                await stop_queue(self._database, queue, error)
            self.lane.give_back(timedelta(0), error.message)
            self.lane.let_go(group.entries, timedelta(0), error.message)

    def _fail(self, group: Group, error: Exception) -> None:
        """The attempts fail; what else they wait for is no longer wanted by them."""
        self.lane.forget(group.entries)
        for work in works_of(group.entries):
            work.end(error)
