"""One line out of a passage: the stretch with the most of what was asked for, and where it stands there."""

from __future__ import annotations

import re

SNIPPET_LENGTH = 200

# Stand around each word that ts_headline found; removed from the text before, so they mean nothing else.
MARKS = START, STOP = "\x02", "\x03"
HEADLINE_OPTIONS = f"HighlightAll=true, StartSel={START}, StopSel={STOP}"

_LEAD = 40
# Control characters too: a document must not speak to the terminal that shows it.
_GAP = re.compile(r"(?:[^\S\x02\x03]|[\x00\x01\x04-\x1f\x7f-\x9f])+")

Span = tuple[int, int]


def make_snippet(marked: str, length: int = SNIPPET_LENGTH) -> tuple[str, tuple[Span, ...]]:
    """A line of at most ``length`` characters, and the (start, end) offsets of marked words in it.

    White space is collapsed; ``…`` stands where text was left out. Without a marked word it is the
    beginning.
    """
    text, spans = _unmark(_GAP.sub(" ", marked).strip())
    if len(text) <= length:
        return text, tuple(spans)
    start = _best_start(text, spans, length)
    end = min(len(text), start + length - (start > 0))
    if end < len(text):
        end = _word_end(text, start, end - 1)
    before, after = "…" if start else "", "…" if end < len(text) else ""
    shift = len(before) - start
    kept = tuple((first + shift, last + shift) for first, last in spans if first >= start and last <= end)
    return before + text[start:end] + after, kept


def _unmark(marked: str) -> tuple[str, list[Span]]:
    pieces: list[str] = []
    spans: list[Span] = []
    position = 0
    for index, part in enumerate(re.split(f"[{START}{STOP}]", marked)):
        if index % 2 and part:
            spans.append((position, position + len(part)))
        pieces.append(part)
        position += len(part)
    return "".join(pieces), spans


def _best_start(text: str, spans: list[Span], length: int) -> int:
    # The window with most different words, then with most words, then the first.
    best, best_found = 0, (0, 0)
    for first, _ in spans:
        start = _word_start(text, max(0, min(first - _LEAD, len(text) - length + 1)))
        inside = [text[a:b].lower() for a, b in spans if a >= start and b <= start + length - 2]
        found = (len(set(inside)), len(inside))
        if found > best_found:
            best, best_found = start, found
    return best


def _word_start(text: str, position: int) -> int:
    if position == 0 or text[position - 1] == " ":
        return position
    space = text.find(" ", position, position + _LEAD)
    return position if space < 0 else space + 1


def _word_end(text: str, start: int, position: int) -> int:
    space = text.rfind(" ", max(start + 1, position - _LEAD), position + 1)
    return position if space < 0 else space
