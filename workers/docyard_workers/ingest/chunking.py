"""Cuts a text into chunks at its own borders: headings, paragraphs, sentences, and only then words."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest.errors import ParserMissing
from docyard_workers.ingest.headings import Heading, find_headings, heading_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_workers.ingest.parsing.document import TextFormat

CHUNK_SIZE = 1200
MIN_SIZE = 16
# The splitter's time grows with the square of a text without borders (1 MB: 3.5 s; 64 KB: 0.02 s).
_BLOCK = 65_536
_LEADING_MARKS = re.compile(r"[\s`~*_=>|:+-]*")
_MARKS_ONLY = re.compile(r"[\s`~*_=#>|:+-]*")


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A piece of a text: ``text == whole[start:end]``, offsets in characters.

    ``heading_path`` are the headings in force where it starts, outermost first, those that open it
    included.
    """

    text: str
    heading_path: tuple[str, ...]
    start: int
    end: int


def split(
    text: str,
    format: TextFormat,
    *,
    size: int = CHUNK_SIZE,
    overlap: int = 0,
    language: str | None = None,
) -> list[ChunkText]:
    """The chunks of a text, in order, each at most ``size`` characters.

    Between them falls white space only; in Markdown also a fence or a rule that would stand alone.
    ``overlap`` characters at most are shared by neighbours. ``language`` (a BCP 47 tag) is for splitters
    that know languages; today's finds sentences by the rules of Unicode. Raises
    :class:`~docyard_schema.errors.InvalidInput` for a size below 16 or an overlap of half the size and more.
    """
    if size < MIN_SIZE or not 0 <= overlap * 2 < size:
        raise InvalidInput(
            f"chunk size {size} and overlap {overlap}: expected a size of at least {MIN_SIZE} characters "
            "and an overlap of less than half of it",
            operation="ingest.chunk",
        )
    markdown = format == "markdown"
    splitter = _splitter(markdown, size, overlap)
    headings = find_headings(text) if markdown else []
    outline = _Outline(text, headings)
    chunks = []
    for begin, block in _blocks(text, headings):
        spans = [(begin + at, begin + at + len(piece)) for at, piece in splitter.chunk_indices(block)]
        for start, end in outline.joined(spans, size) if markdown else spans:
            piece = text[start:end]
            if not (_MARKS_ONLY.fullmatch(piece) if markdown else piece.isspace()):
                chunks.append(ChunkText(piece, outline.path(start, end), start, end))
    return chunks


class _Outline:
    """A text's headings by offset."""

    def __init__(self, text: str, headings: list[Heading]) -> None:
        self._text = text
        self._headings = headings
        self._starts = [heading.start for heading in headings]
        self._paths = [(), *heading_paths(headings)]

    def path(self, start: int, end: int) -> tuple[str, ...]:
        count = self._count(start)
        if self._opens(start) is not None:
            while count < len(self._headings) and self._headings[count].start < end:
                if self._text[self._headings[count - 1].end : self._headings[count].start].strip():
                    break
                count += 1
        return self._paths[count]

    def joined(self, spans: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
        """The spans, a short beginning of a section joined to what follows it in that section.

        The splitter leaves a heading alone when all that stands below it would not fit beside it.
        """
        held: tuple[int, int] | None = None
        for span in spans:
            if held is not None:
                if self._belongs(held, span, size):
                    span = (held[0], span[1])
                else:
                    yield held
            held = span if span[1] - span[0] < size // 8 else None
            if held is None:
                yield span
        if held is not None:
            yield held

    def _belongs(self, held: tuple[int, int], following: tuple[int, int], size: int) -> bool:
        if following[1] - held[0] > size:
            return False
        first, second = self._opens(held[0]), self._opens(following[0])
        if first is None:
            return second is None and _MARKS_ONLY.fullmatch(self._text, *held) is not None
        return second is None or second.level > first.level

    def _opens(self, start: int) -> Heading | None:
        """The heading that a span begins with."""
        count = self._count(start)
        return self._headings[count - 1] if count and self._headings[count - 1].end > start else None

    def _count(self, start: int) -> int:
        first = _LEADING_MARKS.match(self._text, start)
        return bisect_right(self._starts, first.end() if first else start)


def _blocks(text: str, headings: list[Heading]) -> Iterator[tuple[int, str]]:
    """Parts of at most 64 Ki characters with their offsets, cut at the best border of their second half."""
    starts = [heading.start for heading in headings]
    begin = 0
    while len(text) - begin > _BLOCK:
        end = _border(text, begin + _BLOCK // 2, begin + _BLOCK, starts)
        yield begin, text[begin:end]
        begin = end
    yield begin, text[begin:]


def _border(text: str, low: int, high: int, heading_starts: list[int]) -> int:
    before = bisect_right(heading_starts, high) - 1
    if before >= 0 and heading_starts[before] > low:
        return heading_starts[before]
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark, low, high)) != -1:
            return found + len(mark)
    return high


@lru_cache(maxsize=16)
def _splitter(markdown: bool, size: int, overlap: int) -> Any:
    try:
        library = import_module("semantic_text_splitter")
    except ImportError:
        raise ParserMissing(
            "chunking needs the library semantic-text-splitter",
            hint="pip install 'docyard[parsers]'",
            operation="ingest.chunk",
        ) from None
    return (library.MarkdownSplitter if markdown else library.TextSplitter)(size, overlap)
