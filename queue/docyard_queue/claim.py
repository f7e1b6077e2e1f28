"""Claims jobs: at most as many as there are free slots, each at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from docyard_queue.jobs import Job
from docyard_queue.outage import DATABASE_ERRORS
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docyard_schema.database import Database

_OVERTAKEN = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)

_statements = load_statements("docyard_queue", "claim.sql")


async def claim(
    database: Database,
    worker_id: int,
    *,
    slots: int,
    kinds: Mapping[str, int],
    queues: Sequence[str] | None,
) -> list[Job]:
    """Take up to ``slots`` runnable jobs of ``kinds`` (name → default limit of attempts).

    ``queues`` of None serves all. The jobs come back most urgent first; none when nothing is runnable.
    """
    values: dict[str, Any] = {
        "worker": worker_id,
        "slots": slots,
        "kinds": list(kinds),
        "limits": list(kinds.values()),
        "queues": None if queues is None else list(queues),
    }
    try:
        return await _claim(database, values)
    except _OVERTAKEN:
        # A more urgent job with a lock key of this batch arrived and began in between. Alone, each job
        # meets the other under its own snapshot; what cannot be had now is left for the next round.
        taken: list[Job] = []
        for _ in range(slots):
            try:
                one = await _claim(database, values | {"slots": 1})
            except DATABASE_ERRORS:
                # Those taken already are held, whatever became of the connection.
                break
            if not one:
                break
            taken += one
        return taken


async def _claim(database: Database, values: dict[str, Any]) -> list[Job]:
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(Job)
        await cursor.execute(database.sql(_statements.claim), values)
        jobs = await cursor.fetchall()
    # UPDATE … RETURNING has no order of its own.
    return sorted(jobs, key=lambda job: (-job.priority, job.id))
