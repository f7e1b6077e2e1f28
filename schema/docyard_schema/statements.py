"""Reads the ``.sql`` files that stand beside the code that calls them.

A file is a list of statements, each under a line ``-- name: verb_noun`` and, as comments, the
reasons for its shape::

    -- name: get_document
    -- The tip of the chain is a column, so "latest" costs one index probe.
    SELECT … FROM docyard.documents WHERE id = %(id)s;
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)\s*$", re.MULTILINE)


class Statements:
    """The named statements of one file, as attributes: ``statements.get_document``."""

    def __init__(self, source: str, statements: Mapping[str, str]) -> None:
        self._source = source
        self._statements = dict(statements)

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._source} has no statement named {name!r}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._statements.items())


def load_statements(package: str, filename: str) -> Statements:
    """The statements of ``filename`` inside ``package``, without comments and trailing semicolons."""
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    return Statements(f"{package}/{filename}", parse_statements(text, filename))


def parse_statements(text: str, source: str = "") -> dict[str, str]:
    """The statements of a file's text by name; a second one of the same name is an error."""
    found: dict[str, str] = {}
    parts = _NAME.split(text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in found:
            raise ValueError(f"{source}: two statements are named {name!r}")
        lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
        found[name] = "\n".join(line for line in lines if line.strip()).strip().rstrip(";")
    return found
