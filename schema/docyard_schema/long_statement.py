"""Runs statements that are too long for psycopg to remember how it read them.

Of those above 4,096 bytes it looks for parameters at every execution, which takes longer than the rest of a
claim's Python.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARAMETER = re.compile(rb"%%|%\((?P<name>\w+)\)[sbt]")


async def execute_long(
    connection: psycopg.AsyncConnection[Any], sql: bytes, values: Mapping[str, Any]
) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    """Execute a statement with named parameters; a cursor with its rows as tuples."""
    numbered, names = _numbered(sql)
    cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
    return await cursor.execute(numbered, [values[name] for name in names])


@lru_cache(maxsize=256)
def _numbered(sql: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The statement with the server's own ``$1`` for psycopg's parameters, and their names in that order."""
    names: list[str] = []

    def number(match: re.Match[bytes]) -> bytes:
        if match["name"] is None:
            return b"%"
        name = match["name"].decode()
        if name not in names:
            names.append(name)
        return b"$%d" % (names.index(name) + 1)

    return _PARAMETER.sub(number, sql), tuple(names)
