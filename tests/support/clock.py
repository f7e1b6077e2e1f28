"""Moves the time that docyard's SQL reads, for all sessions of a test's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.queueing import query

if TYPE_CHECKING:
    from docyard_schema import Database


async def set_the_clock(database: Database, moment: str = "now") -> None:
    """Let it stand still at ``moment``: a time that Postgres can read."""
    await query(
        database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET docyard.now = %%L', current_database(), "
        f"'{moment}'::timestamptz::text); END $$",
    )
    await database.pool.drain()
