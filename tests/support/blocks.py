"""How much of its tables Postgres touches for a piece of work: a measure that no busy machine disturbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from docyard_schema import Database

_TOUCHED = (
    "SELECT sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) + coalesce(idx_blks_hit, 0) "
    "+ coalesce(idx_blks_read, 0)) FROM pg_statio_user_tables WHERE schemaname = 'docyard'"
)


async def blocks_touched(database: Database, work: Awaitable[object]) -> int:
    """Blocks of docyard's tables and indexes, found in memory or not, that ``work`` touched.

    ``database`` has one connection, so that its session alone is counted; nobody else works meanwhile.
    """
    assert database.pool.max_size == 1
    before = await _total(database)
    await work
    return await _total(database) - before


async def _total(database: Database) -> int:
    async with database.connection() as connection:
        # A session keeps its counts to itself for up to a second.
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        cursor = await connection.execute(_TOUCHED)
        row = await cursor.fetchone()
    return int(row[0]) if row else 0
