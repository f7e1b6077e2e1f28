"""Tells workers of jobs whose lock key has become free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from docyard_schema.database import Database

_statements = load_statements("docyard_queue", "locks.sql")


async def wake_next(database: Database, lock_keys: Collection[str], but_not: Sequence[str] | None) -> None:
    """Wake the workers if a job waits for one of these keys, in another queue than ``but_not``."""
    values = {"keys": [*lock_keys], "queues": None if but_not is None else [*but_not]}
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.wake_next), values)
