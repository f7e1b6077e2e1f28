"""Asks a provider for the vectors of chunks, request by request.

A request that the provider refuses for what it carries is halved until the guilty texts are alone: they are
noted as failed, and all others get their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_schema.embeddings import NewVector
from docyard_workers.embed.errors import TextRefused
from docyard_workers.embed.packing import pack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from docyard_schema.embeddings import PendingChunk
    from docyard_workers.embed.providers import EmbeddingProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What one request brought: vectors, and the chunks without one as (chunk id, code, message)."""

    vectors: Sequence[NewVector]
    failures: Sequence[tuple[int, str, str]]
    tokens: int
    is_last: bool


async def ask(provider: EmbeddingProvider, pending: Sequence[PendingChunk]) -> AsyncIterator[Answered]:
    """The vectors of ``pending``, one request at a time; equal texts travel once.

    Raises an :class:`~docyard_workers.embed.errors.EmbeddingError` other than ``TextRefused``; what was
    given before it is good to keep.
    """
    alike: dict[bytes, list[PendingChunk]] = {}
    for chunk in pending:
        alike.setdefault(chunk.content_hash, []).append(chunk)
    waiting = [*pack([chunks[0] for chunks in alike.values()], provider)][::-1]
    while waiting:
        group = waiting.pop()
        vectors: list[NewVector] = []
        failures: list[tuple[int, str, str]] = []
        tokens = 0
        try:
            answer = await provider.embed([chunk.input for chunk in group])
        except TextRefused as error:
            if len(group) > 1:
                half = len(group) // 2
                waiting += [group[half:], group[:half]]
                continue
            failures += [(chunk.id, error.code, error.message) for chunk in alike[group[0].content_hash]]
        else:
            tokens = answer.tokens
            for position, (first, vector) in enumerate(zip(group, answer.vectors, strict=True)):
                for chunk in alike[first.content_hash]:
                    if vector is not None:
                        vectors.append(
                            NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=vector)
                        )
                    else:
                        failure = answer.failures[position]
                        failures.append((chunk.id, failure.code, failure.message))
        yield Answered(vectors=vectors, failures=failures, tokens=tokens, is_last=not waiting)
