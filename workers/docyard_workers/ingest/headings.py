"""The headings of a Markdown text and where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass

# One pass over the lines that matter: fences, ATX headings, and lines underlined with = or -.
_LINES = re.compile(
    r"^(?:[ ]{0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|[ ]{0,3}(?P<marks>\#{1,6})(?:[ \t](?P<atx>[^\n]*))?$"
    r"|[ ]{0,3}(?!\d{1,9}[.)][ \t])(?P<setext>[^\s>|\#`~=+*<-][^\n]*|[*`][^\s*`][^\n]*)\n"
    r"[ ]{0,3}(?P<underline>=+|-{2,})[ \t]*$)",
    re.MULTILINE,
)
_CLOSING = re.compile(r"(?:^|(?<=[ \t]))#+$")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*(?:\s+\"[^\"]*\")?\)|\[[^\[\]]*\])")
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~|`+)(?=\S)([^*`\n]*?\S)\1")
_MAX_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading's level (1 to 6), its words without markup, and the offsets of its lines."""

    level: int
    text: str
    start: int
    end: int


def find_headings(text: str) -> list[Heading]:
    """The ATX and Setext headings in order; what stands in a fenced block is code, not a heading.

    A Setext heading is one line here: below a longer paragraph a line of dashes is taken for a rule.
    """
    headings: list[Heading] = []
    fence: str | None = None
    for line in _LINES.finditer(text):
        mark = line["fence"]
        if fence is not None:
            if mark and mark[0] == fence[0] and len(mark) >= len(fence) and not line["info"].strip():
                fence = None
        elif mark:
            if "`" not in line["info"] or mark[0] == "~":
                fence = mark
        elif line["marks"]:
            words = clean(_CLOSING.sub("", (line["atx"] or "").strip()))
            if words:
                headings.append(Heading(len(line["marks"]), words, line.start("marks"), line.end()))
        elif _opens_paragraph(text, line.start(), headings):
            level = 1 if line["underline"][0] == "=" else 2
            headings.append(Heading(level, clean(line["setext"]), line.start("setext"), line.end()))
    return headings


def first_heading(text: str) -> str | None:
    """The words of the first heading, or ``None``."""
    headings = find_headings(text[:65_536])
    return headings[0].text if headings else None


def clean(words: str) -> str:
    """A heading's words without links, emphasis and code marks, at most 300 characters of them."""
    words = _LINK.sub(r"\1", words)
    words = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", words))
    words = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", words)
    return " ".join(words.split())[:_MAX_CHARACTERS]


def heading_paths(headings: list[Heading]) -> list[tuple[str, ...]]:
    """For each heading, the words of those in force behind it, outermost first, its own last."""
    paths: list[tuple[str, ...]] = []
    open_headings: list[Heading] = []
    for heading in headings:
        while open_headings and open_headings[-1].level >= heading.level:
            open_headings.pop()
        open_headings.append(heading)
        paths.append(tuple(each.text for each in open_headings))
    return paths


def _opens_paragraph(text: str, start: int, headings: list[Heading]) -> bool:
    previous = text[text.rfind("\n", 0, max(start - 1, 0)) + 1 : max(start - 1, 0)].strip()
    return start == 0 or not previous or previous.startswith("#")
