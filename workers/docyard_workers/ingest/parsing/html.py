"""HTML, converted to Markdown by kreuzberg."""

from __future__ import annotations

import re

from docyard_workers.ingest.decoding import decode, drop_nul
from docyard_workers.ingest.headings import first_heading
from docyard_workers.ingest.parsing.document import ParsedDocument, TextFormat, title_from_name
from docyard_workers.ingest.parsing.html_cleaning import clean_page, flatten, visible_text
from docyard_workers.ingest.parsing.kreuzberg_markdown import to_markdown

# kreuzberg leaves out, without a word, what lies deeper than some 64 elements.
_MAX_NESTING = 40
_MATHML = re.compile(r"<!-- MathML: .*?--> ?", re.S)


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The page's words as Markdown, without navigation, scripts and the targets of links."""
    decoded = decode(data, media_type)
    head, body = clean_page(decoded.text)
    text, format, lost = _convert(body, media_type)
    text, dropped = drop_nul(text)
    return ParsedDocument(
        title=head.title or (first_heading(text) if format == "markdown" else None) or title_from_name(name),
        text=text,
        format=format,
        language=head.language,
        metadata=dict(head.metadata),
        warnings=(*decoded.warnings, *lost, *dropped),
    )


def _convert(body: str, media_type: str) -> tuple[str, TextFormat, tuple[str, ...]]:
    body = flatten(body, _MAX_NESTING)
    text = _MATHML.sub("", to_markdown(body, media_type)).replace("\xa0", " ").strip("\n")
    if 3 * len(text) >= len(body):  # most of the page came through
        return text, "markdown", ()
    words = visible_text(body)
    if _size(words) > 2 * _size(text):
        plain = "\n".join(line for line in (" ".join(line.split()) for line in words.splitlines()) if line)
        return plain, "plain", ("the page nests too deep or is malformed; kept its words without structure",)
    return text, "markdown", ()


def _size(text: str) -> int:
    return sum(map(len, re.findall(r"\w+", text)))
