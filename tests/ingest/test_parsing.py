"""Each format gives its words, its title and its metadata, whatever stands in it."""

import builtins
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docyard_workers.ingest import parsing
from docyard_workers.ingest.errors import IngestError, ParserMissing
from docyard_workers.ingest.media_type import detect
from docyard_workers.ingest.parsing import kreuzberg_markdown
from docyard_workers.ingest.parsing.registry import _MODULES


def parse(text: str | bytes, name: str) -> parsing.ParsedDocument:
    data = text.encode() if isinstance(text, str) else text
    return parsing.parse(data, detect(name, data), name)


# --- plain text and code


def test_plain_text_is_kept_exactly():
    document = parse("  First.\n\n\tSecond  \n", "notes.txt")
    assert (document.title, document.text, document.format) == ("notes", "  First.\n\n\tSecond  \n", "plain")


def test_code_keeps_its_text_and_its_name():
    document = parse('#!/usr/bin/env python\n# comment\n"""Does a thing.\n\nMore."""\nx = 1\n', "tool.py")
    assert (document.title, document.format) == ("tool.py", "code")
    assert document.metadata == {"programming_language": "python", "description": "Does a thing."}
    assert parse("[a]\nb = 1\n", "x.toml").metadata == {"programming_language": "toml"}


# --- Markdown


def test_markdown_front_matter_is_metadata():
    document = parse(
        "---\ntitle: The Title\ndate: 2024-05-06\ntags: [a, b]\nlang: de\nnested: {n: 1.5}\n---\n"
        "# Heading\n\ntext\n",
        "a.md",
    )
    assert document.title == "The Title"
    assert document.language == "de"
    assert document.text == "# Heading\n\ntext\n"
    assert document.metadata == {
        "title": "The Title", "date": "2024-05-06", "tags": ["a", "b"], "lang": "de", "nested": {"n": 1.5},
    }  # fmt: skip
    assert parse('+++\ntitle = "T"\n+++\nx', "a.md").title == "T"


def test_markdown_title_falls_back_to_the_heading_and_the_name():
    assert parse("intro\n\n```\n# code\n```\n\n## The *real* `one`\n", "a.md").title == "The real one"
    assert parse("no heading", "some-notes.md").title == "some-notes"


@pytest.mark.parametrize(
    "block",
    ["key: [unclosed", "a: b: c: d", "x: !!python/object:os.system {}", "a: " + "[" * 5000,
     "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{y}: &{y} [{','.join('*' + x for _ in range(9))}]\n"
     for x, y in zip("abcdefghi", "bcdefghij", strict=True))],
)  # fmt: skip
def test_malformed_or_hostile_front_matter_is_a_warning(block):
    began = time.process_time()
    document = parse(f"---\n{block}\n---\n# Heading\n", "a.md")
    assert document.title == "Heading"
    assert not document.metadata
    assert "front matter left out" in document.warnings[0]
    assert time.process_time() - began < 2


def test_rules_in_markdown_are_no_front_matter():
    text = "---\n\nJust a rule above and below.\n\n---\n\nmore"
    assert parse(text, "a.md").text == text


def test_front_matter_values_are_fit_for_json_and_postgres():
    document = parse('---\na: .nan\nb: "x\\0y"\n1: 2\nc: 2001-01-01 10:00:00\nd: !!set {q}\n---\n', "a.md")
    assert json.loads(json.dumps(document.metadata, allow_nan=False)) == {
        "a": "nan", "b": "xy", "1": 2, "c": "2001-01-01T10:00:00", "d": ["q"],
    }  # fmt: skip


# --- HTML

PAGE = """<!DOCTYPE html><html lang="fr-CA"><head><title>T &amp; title</title>
<meta name="description" content="In &quot;short&quot;">
<meta content='Ann' name=author><style>.x{}</style><script>var a = "</p>shown?"</script></head><body>
<!-- a comment --><nav><a href="/">Site</a></nav>
<div role="navigation"><div><a href="z">Elsewhere</a></div></div>
<div class="navheader"><table><tr><th>Prev page</th></tr></table></div>
<h1>Big <a class="headerlink" href="#x">¶</a></h1>
<p>A <a href="u.html" title="Y">linked [word]</a>, <img src="q.png" alt="an image">, &lt;tag&gt;
&eacute;&nbsp;2 * 3 snake_case_name.</p>
<h2>Sub <code>part</code></h2><pre><code class="language-python"># no heading
x = [a](b)</code></pre><ul><li>one</li><li>two <b>bold</b></li></ul>
<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>
<svg><text>drawn</text></svg><noscript>no script</noscript><template>unused</template>
<script>document.write("<p>written</p>")</script><div class="navfooter">Next page</div></body></html>"""


def test_html_gives_its_words_and_nothing_else():
    document = parse(PAGE, "page.html")
    assert document.title == "T & title"
    assert document.language == "fr-CA"
    assert document.metadata == {"description": 'In "short"', "author": "Ann"}
    assert document.format == "markdown"
    lines = [line for line in document.text.splitlines() if line]
    assert lines[:4] == [
        "# Big",
        "A linked [word], an image, <tag>",
        "é 2 * 3 snake_case_name.",
        "## Sub `part`",
    ]
    assert "x = [a](b)" in lines
    assert "- two **bold**" in lines
    assert "| 1 | 2 |" in [" ".join(line.split()) for line in lines]
    for gone in (
        "Site",
        "Elsewhere",
        "Prev",
        "Next",
        "comment",
        "shown",
        "written",
        "drawn",
        "unused",
        "¶",
        "meta-",
    ):
        assert gone not in document.text


def test_html_in_any_charset_has_no_replacement_characters():
    page = '<html><head><meta charset="iso-8859-1"></head><body><p>Käse “für” alle</p></body></html>'
    assert parse(page.encode("cp1252"), "a.html").text == "Käse “für” alle"
    assert parse(page.replace("iso-8859-1", "").encode("utf-16"), "a.html").text == "Käse “für” alle"


def test_html_without_a_title_takes_its_heading_or_name():
    assert parse("<html><body><h2>Only <i>heading</i></h2></body>", "a.html").title == "Only heading"
    assert parse("<p>words", "page-name.html").title == "page-name"
    assert parse("<title>Loose</title><p>words", "a.html").title == "Loose"
    assert parse("<title>Loose</title><p>words", "a.html").text == "words"


@pytest.mark.parametrize("depth", [30, 100, 3000])
def test_html_that_nests_deep_keeps_its_words(depth):
    page = "<div><span>" * depth + "hidden treasure" + "</span></div>" * depth + "<p>after</p>"
    text = parse(f"<html><body>{page}</body></html>", "a.html").text
    assert "hidden treasure" in text
    assert "after" in text
    lists = "<ul><li>" * depth + "hidden treasure" + "</li></ul>" * depth
    assert "hidden treasure" in parse(lists, "a.html").text


@pytest.mark.parametrize(
    "piece",
    [
        "<script>",
        "<!--",
        "<svg ",
        '<div class="navheader">',
        "<a ",
        "<img alt=",
        "<title>",
        "<meta name=x ",
        "</div>",
        "<",
        "&",
    ],
)
def test_broken_html_takes_no_time(piece):
    began = time.process_time()
    parse("<html><body>words " + piece * 20_000, "a.html")
    parse("<html>" + piece * 20_000, "a.html")
    assert time.process_time() - began < 5


def test_unclosed_navigation_does_not_swallow_the_page():
    assert "words" in parse('<html><body><div role="navigation"><p>words</p></body></html>', "a.html").text


def test_an_empty_page_is_an_empty_document():
    assert parse("<html><body><nav>x</nav></body></html>", "a.html").text == ""


def test_a_missing_parser_says_what_to_install(monkeypatch):
    real = builtins.__import__
    kreuzberg_markdown._config.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "kreuzberg", None)
    with pytest.raises(ParserMissing) as caught:
        parse("<p>words", "a.html")
    assert caught.value.hint == "pip install 'docyard[parsers]'"
    assert builtins.__import__ is real


# --- reStructuredText

RST = """:orphan:
:Author: Ann

.. _label:

=====
Title
=====

See :ref:`some label <lbl>`, :class:`~pkg.Foo`, ``co*de``, `link <http://x.y>`_ and |sub|.

Section
-------

.. function:: foo(a, b)
   :noindex:

   Return a *thing*.

   .. versionadded:: 3.2
      Since then.

.. code-block:: python

   # not a heading
   x = 1

Literally::

   ``` fence

.. note:: Mind
   this.

.. toctree::

   other

.. comment
   not shown

.. unknown-directive:: shown argument

   shown body

>>> 1 + 1
2

.. figure:: a.png
   :alt: An image

   Its caption.

.. |sub| replace:: substituted

Sub
~~~
* item one
  goes on
"""


def test_rst_becomes_markdown_and_loses_no_words():
    document = parse(RST, "a.rst")
    assert document.title == "Title"
    assert document.metadata == {"author": "Ann"}
    lines = [line for line in document.text.splitlines() if line]
    assert lines == [
        "# Title", "See some label, `pkg.Foo`, `co*de`, link and substituted.", "## Section", "`foo(a, b)`",
        "Return a *thing*.", "Added in: 3.2", "Since then.", "```python", "# not a heading", "x = 1", "```",
        "Literally:", "````", "``` fence", "````", "Note: Mind", "this.", "`shown argument`", "shown body",
        "```python", ">>> 1 + 1", "2", "```", "An image", "Its caption.", "### Sub", "- item one", "goes on",
    ]  # fmt: skip


def test_rst_levels_follow_the_order_of_the_underlines():
    text = "One\n===\n\nTwo\n---\n\n####\nOver\n####\n\nTwo again\n---------\n\n-----\n\n"
    text += "One again\n=========\n..."
    lines = parse(text, "a.rst").text.split("\n\n")
    assert lines == ["# One", "## Two", "### Over", "## Two again", "# One again", "..."]


def test_rst_stairs_do_not_exhaust_the_stack():
    text = "\n\n".join(" " * depth + f"step {depth}" for depth in range(2000))
    assert "step 1999" in parse(text, "a.rst").text


# --- JSON


def test_json_becomes_lines_of_path_and_value():
    document = parse(
        '{"user": {"name": "Ann", "tags": ["a", "b"], "n": 1e400, "id": 123456789012345678901234567890},'
        ' "items": [{"k": true}, {"k": null}], "user": "twice", "empty": {}}',
        "a.json",
    )
    assert document.text.split("\n") == [
        "user.name: Ann", "user.tags: a, b", "user.n: 1e400", "user.id: 123456789012345678901234567890",
        "items[0].k: true", "", "items[1].k: null", "user: twice",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, "{broken", "// c\n{}", "[1,]"]
)
def test_json_that_is_none_is_kept_as_it_is_or_walked(text):
    document = parse(text, "a.json")
    assert document.warnings or not document.text.strip("[]{}")


def test_json_strings_never_hold_what_postgres_refuses():
    document = parse(r'{"a": "x\u0000y\ud800z", "\u0000k": "\ud83d\ude00"}', "a.json")
    assert document.text == "a: xy\\ud800z\nk: 😀"
    assert document.warnings == ("2 NUL characters dropped",)


def test_json_lines_keep_bad_lines():
    document = parse('{"a": 1}\n\nnot json\n[1, 2]\n', "a.jsonl")
    assert document.text == "a: 1\n\nnot json\n\n1, 2"
    assert document.warnings == ("1 lines are not JSON, kept as they are",)


# --- CSV


def test_csv_rows_name_their_columns():
    document = parse('name,note\nAnn,"said ""hi"",\nthen left"\nBob,,extra\n', "a.csv")
    assert document.text == 'name: Ann; note: said "hi", then left\nname: Bob; extra'
    assert document.metadata == {"columns": ["name", "note"]}


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("a;b\n1,5;2\n", "x.csv", "a: 1,5; b: 2"),
        ("a\tb\n1\t2\n", "x.tsv", "a: 1; b: 2"),
        ("1,2\n3,4\n", "x.csv", "1; 2\n3; 4"),
        ("same,same\nx,y\n", "x.csv", "same; same\nx; y"),
        ("only,header\n", "x.csv", "only; header"),
        ("one\ntwo\n", "x.csv", "one: two"),
        ("", "x.csv", ""),
    ],
)
def test_csv_dialects(text, name, expected):
    assert parse(text, name).text == expected


def test_csv_fields_may_be_long():
    assert len(parse("a,b\n" + "x" * 500_000 + ",y\n", "a.csv").text) > 500_000


# --- package metadata

METADATA = """Metadata-Version: 2.1
Name: thing
Version: 1.2
Summary: Does things
Description-Content-Type: {type}

{body}
"""


def test_package_metadata_reads_its_description_as_what_it_is():
    document = parse(
        METADATA.format(type="text/markdown; charset=UTF-8", body="# Thing\n\nwords"), "METADATA"
    )
    assert document.title == "thing 1.2"
    assert document.text == "Does things\n\n# Thing\n\nwords\n".strip("\n")
    assert document.metadata["summary"] == "Does things"
    assert (
        "# Thing" in parse(METADATA.format(type="text/x-rst", body="Thing\n=====\n\nwords"), "PKG-INFO").text
    )


def test_package_metadata_with_a_folded_description():
    text = "Metadata-Version: 1.1\nName: old\nDescription: Old\n        ===\n        \n        words\n"
    assert parse(text, "PKG-INFO").text == "# Old\n\nwords"


def test_a_file_that_is_only_called_metadata_is_plain_text():
    assert parse("just words", "METADATA").text == "just words"


# --- every parser


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(_MODULES)),
    st.binary(max_size=200)
    | st.text(alphabet="<>/!-=[]{}:,;|`~#*_\"'.\n\t\0 ab&\\u08é:", max_size=200).map(
        lambda text: text.encode()
    ),
)
def test_any_bytes_give_a_storable_document_or_a_typed_error(media_type, data):
    try:
        document = parsing.parse(data, media_type, "name.x")
    except IngestError:
        return
    stored = (
        document.title + document.text + json.dumps(document.metadata, ensure_ascii=False, allow_nan=False)
    )
    stored.encode()
    assert "\0" not in document.title + document.text
    assert "\\u0000" not in json.dumps(document.metadata)
    assert document.title


def test_text_is_in_composed_form_so_that_a_word_is_one_word():
    decomposed = "Cafe\u0301 Stra\u0308nge"
    document = parsing.parse(f"# {decomposed}\n\n{decomposed}".encode(), "text/markdown", "a.md")
    assert document.title == "Café Stränge"
    assert "\u0301" not in document.text
