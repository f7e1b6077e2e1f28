"""Cuts a list of texts into requests that a provider's limits allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docyard_schema.embeddings import PendingChunk
    from docyard_workers.embed.providers import EmbeddingProvider


def pack(chunks: Iterable[PendingChunk], provider: EmbeddingProvider) -> Iterator[list[PendingChunk]]:
    """Groups of chunks in the order given, each within the provider's texts and tokens per request."""
    limits = provider.limits
    group: list[PendingChunk] = []
    tokens = 0
    for chunk in chunks:
        size = provider.count_tokens(chunk.input)
        full = len(group) >= limits.max_texts_per_request or tokens + size > limits.max_tokens_per_request
        if group and full:
            yield group
            group, tokens = [], 0
        group.append(chunk)
        tokens += size
    if group:
        yield group
