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
    """sha256 of the headings and the text: 32 bytes.

    NUL parts them, which neither can contain, so that "A" above "B" is not the passage "A\\n\\nB": an edit
    that makes a line a heading makes another chunk. Equal hash, equal :func:`embedding_input`, equal vector.
    """
    return hashlib.sha256("\x00".join([*heading_path, text]).encode()).digest()


def identify(pieces: Iterable[tuple[Sequence[str], str]], *, language: str = "english") -> list[NewChunk]:
    """Chunks from (heading path, text) pairs in their order of reading, identity and ordinal included.

    The token count is estimated as bytes / 4, rounded up; providers report the true one.
    """
    seen: Counter[bytes] = Counter()
    chunks = []
    for ordinal, (headings, text) in enumerate(pieces):
        # The separator that a path travels to the database with.
        heading_path = tuple(heading.replace("\x1f", " ") for heading in headings)
        identity = content_hash(heading_path, text)
        chunks.append(
            NewChunk(
                ordinal=ordinal,
                occurrence=seen[identity],
                text=text,
                heading_path=heading_path,
                content_hash=identity,
                token_count=-(-len(embedding_input(heading_path, text).encode()) // 4),
                language=language,
            )
        )
        seen[identity] += 1
    return chunks
