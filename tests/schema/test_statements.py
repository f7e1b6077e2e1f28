"""The ``.sql`` files beside the code: how they are read, and that Postgres understands every one."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema.statements import Statements, load_statements, parse_statements

if TYPE_CHECKING:
    from docyard_schema import Database

PACKAGES = ("docyard_schema", "docyard_queue", "docyard_workers", "docyard")


def statement_files() -> list[Path]:
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None, package
        [folder] = spec.submodule_search_locations or []
        found += [path for path in sorted(Path(folder).rglob("*.sql")) if path.parent.name != "steps"]
    return found


def literals(text: str) -> dict[str, str]:
    """The sample values of ``-- literal: dimension = 256`` lines."""
    return dict(re.findall(r"^-- literal: (\w+) = (.+?)\s*$", text, re.MULTILINE))


def numbered(statement: str) -> str:
    """psycopg's named parameters as Postgres's numbered ones, as psycopg itself would make them."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        if match["name"] not in names:
            names.append(match["name"])
        return f"${names.index(match['name']) + 1}"

    return re.sub(r"%%|%\((?P<name>\w+)\)[sbt]", number, statement)


@pytest.mark.parametrize("path", statement_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
async def test_every_statement_prepares_on_a_fresh_database(database: Database, path: Path) -> None:
    text = path.read_text()
    statements = parse_statements(text, path.name)
    assert statements, "a file without a statement"
    samples = literals(text)
    refused = []
    async with database.connection() as connection:
        # Nothing may lean on a search path.
        await connection.execute("SET search_path = ''")
        for position, (name, statement) in enumerate(statements.items()):
            for literal, value in samples.items():
                statement = statement.replace("{" + literal + "}", value)
            prepared = f"PREPARE statement_{position} AS {numbered(statement)}"
            try:
                await connection.execute(database.sql(prepared), prepare=False)
            except psycopg.Error as error:
                refused.append(f"{name}: {error}")
    assert not refused, "\n".join(refused)


def test_statement_files_are_found_in_several_packages() -> None:
    assert {"documents.sql", "vectors.sql", "drift.sql"} <= {path.name for path in statement_files()}
    assert {"docyard_schema", "docyard_queue"} <= {part for path in statement_files() for part in path.parts}


def test_parameters_are_numbered_as_psycopg_would() -> None:
    assert numbered("SELECT %(b)s, %(a)s, %(b)s, 5 %% 2") == "SELECT $1, $2, $1, 5 % 2"


def test_a_statement_is_an_attribute_without_its_comments() -> None:
    found = parse_statements("-- name: one\n-- Why.\nSELECT 1;\n\n-- name: two\nSELECT\n    2;\n")
    assert found == {"one": "SELECT 1", "two": "SELECT\n    2"}
    assert Statements("x.sql", found).two == "SELECT\n    2"


def test_an_unknown_statement_is_named_with_its_file() -> None:
    statements = load_statements("docyard_schema.documents", "documents.sql")
    with pytest.raises(AttributeError, match=r"documents/documents\.sql has no statement named 'gte'"):
        _ = statements.gte


def test_statements_copy_and_pickle() -> None:
    statements = Statements("x.sql", {"one": "SELECT 1"})
    assert copy.copy(statements).one == "SELECT 1"
    assert pickle.loads(pickle.dumps(statements)).one == "SELECT 1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;", "two statements are named 'one'"),
        ("-- name: one\nSELECT 1;\n-- name: Two-B\nSELECT 2;", "a heading after 'one' is not"),
        ("-- name: one\n-- only words\n-- name: two\nSELECT 2;", "'one' has no statement"),
        ("SELECT 1;\n-- name: two\nSELECT 2;", "SQL before the first name"),
    ],
)
def test_a_mistake_that_would_hide_a_statement_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_statements(text, "x.sql")
