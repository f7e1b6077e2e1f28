from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from docyard_schema.search.snippets import SNIPPET_LENGTH, START, STOP, make_snippet


def mark(text: str) -> str:
    return text.replace("<", START).replace(">", STOP)


def test_a_short_text_is_its_own_snippet() -> None:
    assert make_snippet(mark("one <two> three")) == ("one two three", ((4, 7),))


def test_white_space_and_control_characters_become_one_space() -> None:
    snippet, highlights = make_snippet(mark("  one\n\n\t\x1b[31m <two>\u2028 three "))
    assert snippet == "one [31m two three"
    assert [snippet[start:end] for start, end in highlights] == ["two"]


def test_the_beginning_is_shown_where_nothing_is_marked() -> None:
    snippet, highlights = make_snippet("word " * 100)
    assert snippet == ("word " * 40)[:199].strip() + "…"
    assert highlights == ()


def test_the_stretch_with_most_different_words_is_shown() -> None:
    filler = "filler " * 50
    text = mark(f"<apple> <apple> {filler} an <apple> and a <pear> {filler} <pear>")
    snippet, highlights = make_snippet(text)
    assert [snippet[start:end] for start, end in highlights] == ["apple", "pear"]
    assert snippet.startswith("…")
    assert snippet.endswith("…")


@given(
    st.lists(st.tuples(st.text(alphabet="ab c\n\x00é🙂", max_size=60), st.text(alphabet="xyz", max_size=20)))
)
def test_a_snippet_is_one_bounded_line_and_highlights_are_marked_words(parts: list[tuple[str, str]]) -> None:
    marked = "".join(f"{text}{START}{word}{STOP}" if word else text for text, word in parts)
    snippet, highlights = make_snippet(marked)
    assert len(snippet) <= SNIPPET_LENGTH
    assert not re.search(r"[\n\x00-\x1f]|  ", snippet)
    position = 0
    for start, end in highlights:
        assert position <= start < end
        assert re.fullmatch("[xyz]+", snippet[start:end])
        position = end
    if any(word for _, word in parts):
        assert highlights
