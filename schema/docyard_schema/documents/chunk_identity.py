"""What makes two chunks the same one: the text that is embedded, and how often it stood there before.

An unchanged chunk of an edited document keeps its row and its vectors by this identity; equal texts of
different documents share one vector by its first half.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from docyard_schema.documents.records import NewChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def embedding_input(heading_path: Sequence[str], text: str) -> str:
    """The text that is sent to an embedder: where the passage stands, then the passage.

    A passage alone ("It defaults to 5.") says little; under its headings it can be found.
    """
    return f"{' › '.join(heading_path)}\n\n{text}" if heading_path else text


def content_hash(heading_path: Sequence[str], text: str) -> bytes:
    """sha256 of :func:`embedding_input` in UTF-8: 32 bytes."""
    return hashlib.sha256(embedding_input(heading_path, text).encode()).digest()


def identify(
    pieces: Iterable[tuple[Sequence[str], str]], *, language: str = "english"
) -> list[NewChunk]:
    """Chunks from (heading path, text) pairs in their order of reading, identity and ordinal included.

    The token count is estimated as bytes / 4, rounded up; providers report the true one.
    """
    seen: Counter[bytes] = Counter()
    chunks = []
    for ordinal, (heading_path, text) in enumerate(pieces):
        identity = content_hash(heading_path, text)
        chunks.append(
            NewChunk(
                ordinal=ordinal,
                occurrence=seen[identity],
                text=text,
                heading_path=tuple(heading_path),
                content_hash=identity,
                token_count=-(-len(embedding_input(heading_path, text).encode()) // 4),
                language=language,
            )
        )
        seen[identity] += 1
    return chunks
