"""SQL that names its schemas."""

from __future__ import annotations

import pytest

from docyard_schema import ConfigError, Namespace


def test_our_names_and_pgvectors_get_their_schemas() -> None:
    namespace = Namespace("other", "extensions")
    assert namespace.sql("SELECT a OPERATOR(pgvector.<=>) b FROM docyard.chunks") == (
        b'SELECT a OPERATOR("extensions".<=>) b FROM "other".chunks'
    )


def test_a_schema_of_vectors_with_quotes_and_backslashes_is_quoted() -> None:
    assert Namespace("docyard", r'od"d\1').sql("pgvector.vector") == rb'"od""d\1".vector'


def test_the_clocks_parameter_keeps_its_name_in_another_schema() -> None:
    sql = Namespace("other").sql("SELECT docyard.clock(), current_setting('docyard.now', true)")
    assert sql == b"SELECT \"other\".clock(), current_setting('docyard.now', true)"


@pytest.mark.parametrize("name", ["", "Docyard", "a-b", "1a", "a b", "pg_docyard", "a" * 48, 'a"; DROP', "ä"])
def test_a_schema_name_that_would_need_thought_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        Namespace(name)
    assert "DOCYARD_SCHEMA" in caught.value.hint


@pytest.mark.parametrize("name", ["docyard", "order", "user", "_x", "a" * 47])
def test_plain_names_are_taken_even_reserved_ones(name: str) -> None:
    assert Namespace(name).sql("docyard.jobs") == f'"{name}".jobs'.encode()


def test_namespaces_are_equal_by_their_names() -> None:
    assert Namespace("a", "b") == Namespace("a", "b")
    assert len({Namespace("a"), Namespace("a"), Namespace("b")}) == 2
