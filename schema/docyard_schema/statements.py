"""Reads the ``.sql`` files that stand beside the code that calls them.

A file is a list of statements, each under a line ``-- name: verb_noun`` and, as comments, the
reasons for its shape::

    -- name: get_document
    -- The tip of the chain is a column, so "latest" costs one index probe.
    SELECT … FROM docyard.documents WHERE id = %(id)s;

A constant that the planner has to see (a dimension, say) is written ``{dimension}`` and put in by the
caller; a comment line ``-- literal: dimension = 256`` gives a value to prepare the statement with in a test.

What several statements of a file share stands once, under ``-- fragment: first_in_line``, and is written
``{first_in_line}`` where it belongs, also in fragments that stand before it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HEAD = re.compile(r"^-- (name|fragment): ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^--\s*(name|fragment)\s*:", re.MULTILINE | re.IGNORECASE)


class Statements:
    """The named statements of one file, as attributes: ``statements.get_document``."""

    def __init__(self, source: str, statements: Mapping[str, str]) -> None:
        self._source = source
        self._statements = dict(statements)

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):  # copying and pickling ask for such before __init__ has run
            raise AttributeError(name)
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._source} has no statement named {name!r}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._statements.items())


def load_statements(package: str, filename: str) -> Statements:
    """The statements of ``filename`` inside ``package``, without comments and trailing semicolons."""
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    source = f"{package}/{filename}"
    return Statements(source, parse_statements(text, source))


def parse_statements(text: str, source: str = "") -> dict[str, str]:
    """The statements of a file's text by name.

    A mistake that would hide a statement is a ``ValueError``: a name given twice, a heading that cannot
    be read, a heading without a statement, a statement without a heading.
    """
    found: dict[str, dict[str, str]] = {"name": {}, "fragment": {}}
    parts = _HEAD.split(text)
    heads = [("name", "", parts[0]), *zip(parts[1::3], parts[2::3], parts[3::3], strict=True)]
    for sort, name, body in heads:
        statement = _without_comments(body)
        if _HEADING.search(body):
            raise ValueError(f"{source}: a heading after {name or 'the top'!r} is not '-- name: verb_noun'")
        if any(name in known for known in found.values()):
            raise ValueError(f"{source}: two statements are named {name!r}")
        if bool(name) != bool(statement):
            raise ValueError(
                f"{source}: {f'{name!r} has no statement' if name else 'SQL before the first name'}"
            )
        if name:
            found[sort][name] = statement
    return {name: _filled(statement, found["fragment"]) for name, statement in found["name"].items()}


def _filled(statement: str, fragments: Mapping[str, str]) -> str:
    for name, fragment in fragments.items():
        statement = statement.replace(f"{{{name}}}", fragment)
    return statement


def _without_comments(body: str) -> str:
    lines = (line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().rstrip(";")
