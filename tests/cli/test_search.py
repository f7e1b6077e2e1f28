from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard.cli.output import harmless

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard


@pytest.fixture
def filled(on_server: str, docyard: Docyard, library: Path) -> Docyard:
    assert docyard("ingest", library, "--work", "--quiet").code == 0
    return docyard


def test_hits_have_title_source_score_and_marked_words(filled: Docyard) -> None:
    ended = filled("search", "what warns ships at night", "--limit", "1")
    assert ended.code == 0
    first, source, passage, *_ = ended.out.splitlines()
    assert first.startswith(" 1. Lighthouses  (0.0")
    assert "library/deeper/lighthouse.html" in source
    assert "*warns* *ships*" in passage


@pytest.mark.parametrize("mode", ["hybrid", "text", "vector"])
def test_every_mode_finds(filled: Docyard, mode: str) -> None:
    told = filled("search", "largest animal", "--mode", mode, "--json").json
    assert told["hits"][0]["title"] == "Whales"
    assert told["degraded"] is None


def test_json_hits_have_all_that_a_program_needs(filled: Docyard) -> None:
    hit = filled("search", "tides", "--json").json["hits"][0]
    assert hit.keys() >= {
        "document_id", "source_uri", "title", "kind", "collection", "snippet", "highlights", "score",
        "text_score", "vector_score", "similarity", "chunk_id", "heading_path",
    }  # fmt: skip
    start, end = hit["highlights"][0]
    assert hit["snippet"][start:end] == "tides"


def test_a_kind_without_documents_has_no_hits(filled: Docyard) -> None:
    ended = filled("search", "tides", "--kind", "memory")
    assert ended.code == 0
    assert ended.out == ""
    assert "Nothing found" in ended.err


def test_an_unknown_mode_is_wrong_use(docyard: Docyard) -> None:
    ended = docyard("search", "tides", "--mode", "magic")
    assert ended.code == 2
    assert "magic" in ended.err


def test_a_search_by_vector_before_there_are_any_is_wrong_use(on_server: str, docyard: Docyard) -> None:
    ended = docyard("search", "tides", "--mode", "vector")
    assert ended.code == 2
    assert "error:" in ended.err


def test_a_search_that_misses_a_half_says_so_and_answers(on_server: str, filled: Docyard) -> None:
    with psycopg.connect(on_server, autocommit=True) as connection:
        connection.execute("UPDATE docyard.embedding_models SET state = 'retired'")
    told = filled("search", "tides", "--json").json
    assert told["hits"][0]["title"] == "tides"
    assert "Found by words alone" in told["degraded"]
    assert "warning: Found by words alone" in filled("search", "tides").err


def test_nothing_in_an_empty_database_says_how_to_begin(on_server: str, docyard: Docyard) -> None:
    ended = docyard("search", "tides", "--mode", "text")
    assert ended.code == 0
    assert "docyard ingest" in ended.err


def test_escape_sequences_of_a_document_do_not_reach_the_terminal() -> None:
    assert harmless("a\x1b[31mb\x9bc") == "a\ufffd[31mb\ufffdc"
