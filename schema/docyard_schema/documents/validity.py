"""What Postgres cannot store is refused before it is sent, in words that name the field."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docyard_schema.documents.records import NewChunk, NewDocument

# Collection and source are one index entry, which holds about 2,700 bytes.
_LONGEST_SOURCE_BYTES = 2600
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_document(document: NewDocument, chunks: Sequence[NewChunk]) -> None:
    """Raise :class:`InvalidInput` naming the field that cannot be stored, and why."""
    for name in ("kind", "collection", "source_uri"):
        if not getattr(document, name):
            raise InvalidInput(f"A document needs a {name}; got an empty one.", operation="store")
    for name, text in _texts(document, chunks):
        _check_text(name, text, document.source_uri)
    if len(document.sha256) != 32:
        raise InvalidInput(
            f"sha256 is 32 bytes, got {len(document.sha256)}.",
            hint="Use hashlib.sha256(data).digest().",
            operation="store",
        )
    size = len(document.collection.encode()) + len(document.source_uri.encode())
    if size > _LONGEST_SOURCE_BYTES:
        raise InvalidInput(
            f"Collection and source URI have {size} bytes together, {_LONGEST_SOURCE_BYTES} at most can be "
            f"found again: {document.source_uri[:80]}…",
            hint="Use a shorter name, for example a hash of it, and keep the long one in the metadata.",
            operation="store",
        )
    if document.expires_at is not None and document.expires_at.tzinfo is None:
        raise InvalidInput(
            f"expires_at has no time zone: {document.expires_at}.",
            hint="Use datetime(…, tzinfo=UTC).",
            operation="store",
        )


def _texts(document: NewDocument, chunks: Sequence[NewChunk]) -> Iterator[tuple[str, str]]:
    for name in ("source_uri", "kind", "collection", "media_type", "pipeline_version"):
        yield name, getattr(document, name)
    yield "title", document.title or ""
    yield "raw text", document.raw or ""
    for tag in document.tags:
        yield "tags", tag
    yield from (("metadata", text) for text in _json_texts(document.metadata))
    yield from (("contents", text) for text in _json_texts(document.contents))
    for chunk in chunks:
        yield f"chunk {chunk.ordinal}", chunk.text
        for heading in chunk.heading_path:
            yield f"heading of chunk {chunk.ordinal}", heading


def _json_texts(value: Any) -> Iterator[str]:
    # As JSON, so that what the driver would walk through is walked through; one string is enough to look at.
    if value:
        yield (
            json.dumps(value, ensure_ascii=False, default=str).replace("\\\\", "").replace("\\u0000", "\x00")
        )


def _check_text(name: str, text: str, source: str) -> None:
    if "\x00" in text:
        raise InvalidInput(
            f"The {name} of {source!r} contains a NUL character, which Postgres cannot store.",
            hint="Remove it, or store the bytes as a binary original (raw=None).",
            operation="store",
        )
    if not text.isascii() and (found := _SURROGATE.search(text)):
        raise InvalidInput(
            f"The {name} of {source!r} contains half a character ({found[0]!r} at {found.start()}), "
            "which is no text: its bytes were probably not UTF-8.",
            hint="Decode them with the right encoding, or with errors='replace'.",
            operation="store",
        )
