"""What a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload
from uuid import UUID  # noqa: TC003 - a row's field


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A document that was found, and its passage that fits best.

    ``score`` is what hits are ordered by: the sum of 1 / (60 + rank) over the branches that found the
    document; ``text_score`` and ``vector_score`` are the shares of words and of vectors in it, None where
    they did not find it. Scores order the hits of one search and mean nothing across searches.
    ``bm25`` and ``similarity`` (cosine: 1 is the same direction) are what the ranks were made from.

    ``snippet`` is one line of plain text out of the chunk, at most 200 characters, and ``highlights`` are
    the (start, end) offsets in it of words that were asked for.
    """

    document_id: UUID
    source_uri: str | None
    title: str | None
    kind: str
    collection: str
    chunk_id: int
    heading_path: tuple[str, ...]
    snippet: str
    highlights: tuple[tuple[int, int], ...]
    score: float
    text_score: float | None
    vector_score: float | None
    bm25: float | None
    similarity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult(Sequence[Hit]):
    """Hits, best first; ``degraded`` says in a sentence why a branch could not run, or is None."""

    hits: tuple[Hit, ...] = ()
    degraded: str | None = None

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]
