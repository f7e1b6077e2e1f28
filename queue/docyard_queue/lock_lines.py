"""Keeps long lines of one lock key out of the claims' way: all but the first few hundred are parked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Database

# So many of each line stay where claims look. They last for as long as it takes to look again.
_FRONT = 200

_statements = load_statements("docyard_queue", "lock_lines.sql")


async def park(database: Database) -> int:
    """Take jobs far behind in the line of their lock key out of the way; how many, at most 5,000 a line."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.park), {"front": _FRONT})
        return cursor.rowcount


async def unpark(database: Database) -> int:
    """Bring parked jobs to the front whose turn comes near; how many."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.unpark), {"front": _FRONT})
        return cursor.rowcount
