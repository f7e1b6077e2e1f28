"""One request: its texts are read and paid for, it is sent, and its vectors are stored together with the
completion of the jobs that now have all of theirs (``storing.py``). When it fails: ``setbacks.py``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from docyard_queue import RateLimited
from docyard_queue.outage import OUTAGE, brief
from docyard_schema.embeddings import NewVector
from docyard_workers.embed import errors
from docyard_workers.embed.packing import Group, payers
from docyard_workers.embed.setbacks import note

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from docyard_schema import VectorRepository
    from docyard_workers.embed.allowance import Allowance, Reserved
    from docyard_workers.embed.lane import Lane
    from docyard_workers.embed.packing import Entry
    from docyard_workers.embed.providers import Embedded, EmbeddingProvider
    from docyard_workers.embed.setbacks import Setbacks
    from docyard_workers.embed.storing import Storing

_log = structlog.get_logger("docyard.embed")

# How long nothing is sent when the database does not answer.
_WITHOUT_DATABASE = timedelta(seconds=1)
# Requests of fewer tokens do not teach us how the provider counts, and none teaches more than this.
_TELLING_TOKENS = 10_000
_LARGEST_SCALE = 4.0

_STOPPING = (errors.QuotaExhausted, errors.ProviderRefused, errors.ModelNotFound)


class Requests:
    """Sends the groups of one lane."""

    def __init__(
        self,
        provider: EmbeddingProvider,
        lane: Lane,
        allowance: Allowance,
        vectors: VectorRepository,
        storing: Storing,
        setbacks: Setbacks,
    ) -> None:
        self._provider = provider
        self._lane = lane
        self._allowance = allowance
        self._vectors = vectors
        self._storing = storing
        self._setbacks = setbacks

    async def send(self, group: Group) -> Coroutine[Any, Any, None] | None:
        """Send one group; await what comes back to store its vectors. Neither raises: what went wrong is told
        to the jobs that wait for it.
        """
        try:
            texts = await self._texts(group)
            answer = await self._ask(group, texts) if texts else None
        except RateLimited as error:
            # By our own budgets and cool-downs: it was not sent.
            self._setbacks.cool(group, error.retry_after, brief(error))
            return None
        except OUTAGE as error:
            # Without the database nothing could be stored either. No attempt is to blame.
            self._setbacks.cool(group, _WITHOUT_DATABASE, brief(error))
            return None
        except Exception as error:  # noqa: BLE001 - whatever it was, no job may wait for ever
            self._fail(group, error)
            return None
        return None if answer is None else self._store(group, answer)

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
                rest = replace(group, entries=group.entries[position:])
                group.entries = group.entries[:position]
                self._lane.put_back(rest)
                return texts[:position]
        return texts

    async def _vanished(self, group: Group, gone: Sequence[Entry]) -> None:
        """Chunks were removed by an edit since; perhaps another chunk has the same text."""
        group.entries = [entry for entry in group.entries if entry not in gone]
        answered = [entry.wants.pop(0) for entry in gone]
        self._lane.forget([entry for entry in gone if not entry.wants])
        self._lane.put_back(Group([entry for entry in gone if entry.wants]))
        await self._storing.store(answered)

    async def _ask(self, group: Group, texts: list[str]) -> Embedded | None:
        tokens = sum(self._provider.count_tokens(text) for text in texts)
        reserved: Reserved | None = None

        async def reserve() -> None:
            nonlocal reserved
            reserved = reserved or await self._allowance.reserve(tokens)
            group.sent_at = time.monotonic()

        try:
            answer = await self._provider.embed(texts, before_sending=reserve)
        except errors.RateLimited as error:
            await self._setbacks.limited(group, error)
            await self._settle(group, reserved, 0)
        except errors.TextRefused as error:
            await self._settle(group, reserved, 0)
            await self._setbacks.refused(group, error)
        except _STOPPING as error:
            await self._settle(group, reserved, 0)
            await self._setbacks.stop(group, error)
        except errors.EmbeddingError as error:
            # Without a status it may have been counted, and cannot be asked.
            await self._settle(group, reserved, 0 if error.status is not None else tokens)
            await self._setbacks.unanswered(group, error)
        else:
            self._setbacks.over()
            self._lane.went_well()
            self._learn(answer.tokens, tokens)
            await self._settle(group, reserved, answer.tokens if answer.requests else 0)
            return answer
        return None

    async def _settle(self, group: Group, reserved: Reserved | None, tokens: int) -> None:
        if reserved is None:
            return
        if tokens:
            await note(self._allowance.settle(reserved, tokens=tokens, shares=payers(group.entries)))
        else:
            await note(self._allowance.give_back(reserved))

    def _learn(self, counted: int, estimated: int) -> None:
        """A provider that counts more tokens than we do gets fewer texts from now on."""
        # A few short texts say little: what each has besides its words weighs too much.
        if estimated >= _TELLING_TOKENS:
            packer = self._lane.packer
            packer.scale = min(max(packer.scale, counted / estimated), _LARGEST_SCALE)

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
            entry.wants[0][0].tokens += tokens
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
        try:
            with self._lane.storing(group.entries):
                await self._storing.store(group.wants, vectors, failures)
        except Exception as error:  # noqa: BLE001 - as in send()
            self._fail(group, error)

    def _fail(self, group: Group, error: Exception) -> None:
        _log.warning("embedding.failed", texts=len(group.entries), error=brief(error))
        self._setbacks.fail(group, error)
