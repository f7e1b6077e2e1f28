"""Vectors as a binary COPY takes them: in text they would be three times as long, and slower to write and
read.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

from docyard_schema.embeddings.vector_text import comparable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What surrounds the rows: a signature, flags, the length of an extension; at the end -1 (Postgres's page on
# COPY).
_BEGIN = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_END = struct.pack(">h", -1)


def vector_bytes(embedding: Sequence[float], dimension: int) -> bytes:
    """pgvector's binary form of a vector, float32 kept to the bit; raises what ``comparable`` raises."""
    values = comparable(embedding, dimension)
    if sys.byteorder == "little":
        values.byteswap()
    return struct.pack(">hh", dimension, 0) + values.tobytes()


def copied_rows(model_id: int, rows: Iterable[tuple[int, bytes, bytes]]) -> bytes:
    """All that a COPY of (chunk id, :func:`vector_bytes`, content hash) sends, for the columns model_id
    integer, chunk_id bigint, embedding vector, content_hash bytea.
    """
    model = struct.pack(">hii", 4, 4, model_id)
    parts = [_BEGIN]
    for chunk_id, vector, content_hash in rows:
        parts += (
            model,
            struct.pack(">iqi", 8, chunk_id, len(vector)),
            vector,
            struct.pack(">i", len(content_hash)),
            content_hash,
        )
    parts.append(_END)
    return b"".join(parts)
