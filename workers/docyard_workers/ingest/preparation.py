"""From bytes to chunks in one call, here or in a child process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_workers.ingest import parsing
from docyard_workers.ingest.chunking import CHUNK_SIZE, MIN_SIZE, ChunkText, split
from docyard_workers.ingest.media_type import detect
from docyard_workers.ingest.sources import MAX_BYTES, read_source

if TYPE_CHECKING:
    from docyard_workers.ingest.parsing import ParsedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """The most characters of a chunk, and how many of them neighbours share at most.

    ``max_tokens`` is what an embedding model takes at once, headings included, estimated as bytes / 4: a
    document with a larger chunk is cut smaller as a whole. None: no limit.
    """

    size: int = CHUNK_SIZE
    overlap: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedAndChunked:
    """A parsed document, the media type it was parsed as, and its chunks: none for an empty text."""

    document: ParsedDocument
    media_type: str
    chunks: tuple[ChunkText, ...]


def prepare(
    source: bytes | Path, media_type: str | None, name: str, options: ChunkOptions | None = None
) -> ParsedAndChunked:
    """Parses and chunks a document in this process; ``media_type`` ``None`` means: find out.

    Raises an :class:`~docyard_workers.ingest.errors.IngestError`.
    """
    options = options or ChunkOptions()
    data = read_source(source, MAX_BYTES).data if isinstance(source, Path) else source
    media_type = media_type or detect(name, data)
    document = parsing.parse(data, media_type, name)
    del data
    chunks = tuple(_split(document, options, options.size))
    return ParsedAndChunked(document=document, media_type=media_type, chunks=chunks)


def _split(document: ParsedDocument, options: ChunkOptions, size: int) -> list[ChunkText]:
    overlap = options.overlap * size // options.size
    chunks = split(document.text, document.format, size=size, overlap=overlap, language=document.language)
    if options.max_tokens is None or size <= MIN_SIZE:
        return chunks
    largest = max((_tokens(chunk) for chunk in chunks), default=0)
    if largest <= options.max_tokens:
        return chunks
    # A text of three bytes a character has three times the tokens of a plain one, in the same characters.
    return _split(document, options, max(MIN_SIZE, size * options.max_tokens // (largest + 1)))


def _tokens(chunk: ChunkText) -> int:
    # What embedding_input() makes of it, without the ground floor, which parser processes do not load.
    return -(-len(" › ".join([*chunk.heading_path, chunk.text]).encode()) // 4)
