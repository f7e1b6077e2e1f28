"""Chunks cover the text, keep its order, fit, and know under which headings they stand."""

import re
import time
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from docyard_schema.documents import embedding_input
from docyard_schema.errors import InvalidInput
from docyard_workers.ingest.chunking import ChunkText, split
from docyard_workers.ingest.headings import clean, find_headings
from docyard_workers.ingest.preparation import ChunkOptions, prepare

FORMATS = st.sampled_from(["markdown", "plain", "code"])
MARKS = re.compile(r"[\s`~*_=#>|:+-]*")
LINES = st.lists(
    st.sampled_from(
        ["# One", "## Two", "### Three `x`", "```", "~~~~", "# in code?", "", "",
         "word " * 30, "é👩‍👩‍👧‍👦 ünï.", "- item", "> q",
         "Under\n=====", "Line\n---", "| a | b |", "---", "    indented", "x" * 90, "\u2028", "\t",
         "1. one", "[a](b)"]
    ) | st.text(max_size=40),
    max_size=40,
)  # fmt: skip
TEXTS = LINES.map("\n".join) | st.text(max_size=400)


@settings(max_examples=300, deadline=None)
@given(TEXTS, FORMATS, st.integers(16, 200))
@example("word", "plain", 16)
@example("# A\n\n```\n# b\n```\n", "markdown", 16)
def test_nothing_but_space_is_lost_and_every_chunk_is_a_slice(text, format, size):
    chunks = split(text, format, size=size)
    position = 0
    for chunk in chunks:
        assert chunk.start >= position
        assert not _content(text[position : chunk.start], format)
        assert chunk.text == text[chunk.start : chunk.end]
        assert 0 < len(chunk.text) <= size
        assert chunk.text.strip()
        position = chunk.end
    assert not _content(text[position:], format)


@settings(max_examples=100, deadline=None)
@given(TEXTS, FORMATS, st.integers(16, 100), st.integers(0, 7))
def test_overlap_keeps_order_cover_and_size(text, format, size, overlap):
    position, start = 0, -1
    for chunk in split(text, format, size=size, overlap=overlap):
        assert start < chunk.start
        assert not _content(text[position : chunk.start], format)
        assert len(chunk.text) <= size
        position, start = max(position, chunk.end), chunk.start
    assert not _content(text[position:], format)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(16, 200))
def test_heading_path_is_that_of_the_headings_above(text, size):
    headings = find_headings(text)
    for chunk in split(text, "markdown", size=size):
        first = chunk.start + len(chunk.text) - len(chunk.text.lstrip())
        least = [heading for heading in headings if heading.start <= first]
        most = [heading for heading in headings if heading.start < chunk.end]
        assert chunk.heading_path in [_path(most[:count]) for count in range(len(least), len(most) + 1)]


def _path(headings):
    path = {}
    for heading in headings:
        path = {level: text for level, text in path.items() if level < heading.level} | {
            heading.level: heading.text
        }
    return tuple(path.values())


def _content(between, format):
    return not MARKS.fullmatch(between) if format == "markdown" else between.strip()


def test_a_chunk_knows_its_headings_and_code_holds_none():
    text = (
        "Before.\n\n# Guide\n\n## Install\n\n" + "Run it. " * 33 + "\n\n```sh\n# not a heading\n```\n\n"
        "Usage\n-----\n\n" + "Use it. " * 34
    )
    chunks = split(text, "markdown", size=300)
    assert [(chunk.heading_path, chunk.text[:10].strip()) for chunk in chunks] == [
        ((), "Before."),
        (("Guide", "Install"), "# Guide\n\n#"),
        (("Guide", "Install"), "```sh\n# no"),
        (("Guide", "Usage"), "Usage\n----"),
    ]


def test_a_heading_is_not_left_alone_when_its_text_fits_beside_it():
    text = (
        "## Synopsis\n\n```\n"
        + ("SELECT " + "something, " * 8 + "FROM somewhere;\n") * 5
        + "```\n\n## Next\n\nwords"
    )
    chunks = split(text, "markdown", size=400)
    assert chunks[0].text.startswith("## Synopsis\n\n```\nSELECT")
    assert all(chunk.text.strip("`#\n") != "Synopsis" for chunk in chunks)
    assert chunks[-1].text.endswith("words")


def test_a_complete_short_section_is_not_joined_to_the_next():
    text = "## A\n\nshort\n\n## B\n\n" + "long words here " * 20
    assert [chunk.heading_path for chunk in split(text, "markdown", size=330)] == [("A",), ("B",)]


@pytest.mark.parametrize(
    ("line", "level", "words"),
    [
        ("# Plain", 1, "Plain"),
        ("###### Six ######", 6, "Six"),
        ("## `WITH` *clause* [link](a.html \"t\")", 2, "WITH clause link"),
        ("   ## Three spaces", 2, "Three spaces"),
        ("Setext\n======", 1, "Setext"),
        ("## C# and F#", 2, "C# and F#"),
        ("## snake_case_name", 2, "snake_case_name"),
        ("## a \\* b", 2, "a * b"),
    ],
)  # fmt: skip
def test_headings_are_found(line, level, words):
    assert [(heading.level, heading.text) for heading in find_headings(line)] == [(level, words)]


@pytest.mark.parametrize(
    "text",
    ["#hashtag", "    # code", "####### seven", "```\n# x\n", "~~~\n# x\n```\n# y", "- item\n---",
     "a | b\n---\n",      "two lines\nof words\n---", "> # quoted", "#", "1. item\n---", "``` a`b\nx"],
)  # fmt: skip
def test_what_only_looks_like_a_heading_is_none(text):
    assert [heading.text for heading in find_headings(text)] == (["a | b"] if text.startswith("a |") else [])


def test_an_unclosed_link_or_emphasis_in_a_heading_takes_no_time():
    began = time.process_time()
    assert clean("[" * 5000 + "*" * 5000)
    assert find_headings("# " + " " * 200_000 + "x")[0].text == "x"
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("size", "overlap"), [(15, 0), (0, 0), (100, 50), (100, -1)])
def test_nonsense_sizes_are_refused(size, overlap):
    with pytest.raises(InvalidInput):
        split("text", "plain", size=size, overlap=overlap)


@pytest.mark.parametrize("text", ["", " \n\t\n", "\u2003"])
def test_no_words_no_chunks(text):
    assert split(text, "plain") == split(text, "markdown") == []


@pytest.mark.parametrize("format", ["plain", "markdown"])
def test_time_does_not_grow_with_the_square(format):
    """One line of a million characters takes the splitter itself 3.5 seconds, and ten millions 6 minutes."""
    for text in ("x" * 1_000_000, "# h\n\n## i\n\nword word\n\n" * 40_000, "[" * 300_000, "> " * 100_000):
        began = time.process_time()
        chunks = split(text, format)
        assert sum(len(chunk.text) for chunk in chunks) >= 0.9 * len(text.strip()) or MARKS.fullmatch(text)
        assert time.process_time() - began < 8


def test_no_chunk_is_longer_than_what_a_model_takes() -> None:
    text = "# 旱獭\n\n" + "旱獭在鹰来的时候吹口哨。" * 400
    options = ChunkOptions(size=1200, overlap=100)
    assert max(map(_tokens, prepare(text.encode(), None, "a.md", options).chunks)) > 512
    chunks = prepare(text.encode(), None, "a.md", replace(options, max_tokens=512)).chunks
    assert 256 < max(map(_tokens, chunks)) <= 512
    plain = "Marmots whistle when an eagle comes. " * 400
    fitting = replace(options, max_tokens=512)
    assert prepare(plain.encode(), None, "a.txt", fitting) == prepare(plain.encode(), None, "a.txt", options)


def _tokens(chunk: ChunkText) -> int:
    return -(-len(embedding_input(chunk.heading_path, chunk.text).encode()) // 4)
