"""Markdown, kept as Markdown."""

from __future__ import annotations

from typing import Any

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.headings import first_heading
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name
from docyard_workers.ingest.parsing.front_matter import split_front_matter


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The text behind the front matter, titled by that, by the first heading, or by the file's name."""
    decoded = decode(data, media_type)
    metadata, text, warnings = split_front_matter(decoded.text)
    return ParsedDocument(
        title=_text(metadata.get("title")) or first_heading(text) or title_from_name(name),
        text=text,
        format="markdown",
        language=_text(metadata.get("lang") or metadata.get("language")),
        metadata=metadata,
        warnings=(*decoded.warnings, *warnings),
    )


def _text(value: Any) -> str | None:
    return " ".join(str(value).split()) or None if isinstance(value, str | int | float) else None
