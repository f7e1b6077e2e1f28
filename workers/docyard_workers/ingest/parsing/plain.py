"""Plain text, as it is."""

from __future__ import annotations

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The decoded text, titled by the file's name."""
    decoded = decode(data, media_type)
    return ParsedDocument(
        title=title_from_name(name), text=decoded.text, format="plain", warnings=decoded.warnings
    )
