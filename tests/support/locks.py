"""Who waits for a lock in one database: the run's server has many, where equal tables have equal numbers."""

from __future__ import annotations

import psycopg


async def waiting_for_locks(url: str) -> int:
    """How many sessions of this database wait for a lock now."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        row = await cursor.fetchone()
    return row[0] if row else 0


async def locks_on(url: str, table: str, mode: str) -> int:
    """How many sessions of this database hold a lock of this mode on a table."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database "
            "WHERE datname = current_database() AND granted AND relation = %s::regclass AND mode = %s",
            [table, mode],
        )
        row = await cursor.fetchone()
    return row[0] if row else 0
