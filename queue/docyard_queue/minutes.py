"""Counts jobs by minute, queue and kind, for the views ``job_latency`` and ``throughput``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Database

_statements = load_statements("docyard_queue", "minutes.sql")


async def count_minutes(database: Database) -> bool:
    """Write down what happened in the minutes that have ended; False if there is none, or another is at it.

    Up to 24 hours are made up for. A job is counted in the minute in which it was enqueued and in that in
    which it ended; what commits more than 30 seconds after that minute's end is not counted.
    """
    async with database.transaction() as connection:
        cursor = await connection.execute(database.sql(_statements.take))
        row = await cursor.fetchone()
        if row is None:
            return False
        since, until, first_job_id = row
        values = {"since": since, "until": until, "first_job_id": first_job_id}
        await connection.execute(_statements.allow_time.encode())
        await connection.execute(database.sql(_statements.count_jobs), values)
        await connection.execute(database.sql(_statements.advance), values)
        await connection.execute(database.sql(_statements.forget), values)
    return True
