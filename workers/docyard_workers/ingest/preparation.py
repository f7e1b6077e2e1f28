"""From bytes to chunks in one call, here or in a child process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_workers.ingest import parsing
from docyard_workers.ingest.chunking import CHUNK_SIZE, ChunkText, split
from docyard_workers.ingest.media_type import detect
from docyard_workers.ingest.sources import MAX_BYTES, read_source

if TYPE_CHECKING:
    from docyard_workers.ingest.parsing import ParsedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """The most characters of a chunk, and how many of them neighbours share at most."""

    size: int = CHUNK_SIZE
    overlap: int = 0


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
    chunks = split(
        document.text, document.format, size=options.size, overlap=options.overlap, language=document.language
    )
    return ParsedAndChunked(document=document, media_type=media_type, chunks=tuple(chunks))
