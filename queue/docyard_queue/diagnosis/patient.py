"""What a check is given to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docyard_schema.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A database, and from how many seconds on a transaction is long."""

    database: Database
    transaction_seconds: float

    async def ask(self, statement: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, read on a connection of the pool."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(self.database.sql(statement), values)
            return await cursor.fetchall()
