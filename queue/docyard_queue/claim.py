"""Claims jobs: at most as many as there are free slots, each at most once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from docyard_queue.jobs import Job
from docyard_queue.outage import DATABASE_ERRORS
from docyard_schema.long_statement import execute_long
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from docyard_schema.database import Database

OVERTAKEN = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)

_PRIORITY = 4

_read = json.JSONDecoder().decode

AGE_SECONDS = 60.0

statements = load_statements("docyard_queue", "claim.sql")


class Front(NamedTuple):
    """How many of the first jobs of a queue, of those that are ready or that are ``late``, have this kind."""

    queue: str
    late: bool
    kind: str
    jobs: int


async def claim(
    database: Database,
    worker_id: int,
    *,
    slots: int,
    kinds: Mapping[str, int],
    queues: Sequence[str] | None,
    after: Job | None = None,
    apart: Collection[str] = (),
) -> list[Job]:
    """Take up to ``slots`` runnable jobs of ``kinds`` (name → default limit of attempts).

    ``queues`` of None serves all, but those that are named ``apart``. The jobs come back most urgent first;
    none when nothing is runnable. ``after`` goes on behind a job that was claimed a moment ago, in its queue
    and at its priority alone: that is quicker, and sees no job that is more urgent.
    """
    values: dict[str, Any] = {
        "worker": worker_id,
        "slots": slots,
        "kinds": list(kinds),
        "limits": list(kinds.values()),
        "queues": None if queues is None else list(queues),
        # Nearly always none, and a list takes longer to write than anything else here.
        "apart": list(apart) or None,
    }
    try:
        if after is not None:
            values |= {"queue": after.queue, "priority": after.priority, "after": after.id}
            return await _claim(database, values, statements.claim_on)
        return await _claim(database, values)
    except OVERTAKEN:
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


async def claim_aged(
    database: Database,
    worker_id: int,
    *,
    slots: int,
    kinds: Mapping[str, int],
    queues: Sequence[str] | None,
    apart: Collection[str] = (),
) -> list[Job]:
    """Take up to ``slots`` jobs that waited for over a minute, oldest first, whatever their priority.

    They know their weight.
    """
    values: dict[str, Any] = {
        "worker": worker_id,
        "slots": slots,
        "kinds": list(kinds),
        "limits": list(kinds.values()),
        "queues": None if queues is None else list(queues),
        "age": AGE_SECONDS,
        "apart": list(apart),
    }
    try:
        return _unlimited(await _claim(database, values, statements.claim_aged))
    except OVERTAKEN:
        return []


async def claim_weighed(
    database: Database,
    worker_id: int,
    queue: str,
    *,
    slots: int,
    room: float,
    whatever_it_weighs: bool,
    kinds: Mapping[str, int],
) -> list[Job]:
    """Take up to ``slots`` jobs of one queue that weigh no more than ``room`` together, most urgent first.

    ``whatever_it_weighs``: the first one also when it is heavier. The jobs know their weight.
    """
    values: dict[str, Any] = {
        "worker": worker_id,
        "queue": queue,
        "slots": slots,
        "room": room,
        "any": whatever_it_weighs,
        "kinds": list(kinds),
        "limits": list(kinds.values()),
        "apart": [],
    }
    try:
        jobs = await _claim(database, values, statements.claim_weighed)
    except OVERTAKEN:
        # As in claim(); the next round finds the others.
        try:
            jobs = await _claim(database, values | {"slots": 1}, statements.claim_weighed)
        except OVERTAKEN:
            return []
    return _unlimited(jobs)


async def fronts(database: Database, queues: Sequence[str] | None, places: int) -> list[Front]:
    """What kinds stand at the first ``places`` of queues (None: of all in which something waits)."""
    values = {"queues": None if queues is None else list(queues), "places": places}
    async with database.connection() as connection:
        cursor = await execute_long(connection, database.sql(statements.fronts), values)
        return [Front(*row) for row in await cursor.fetchall()]


def _unlimited(jobs: list[Job]) -> list[Job]:
    # They were not claimed by a limit, though they come with their weight as such do.
    return [job._replace(limited=False) for job in jobs]


async def _claim(database: Database, values: dict[str, Any], statement: str = statements.claim) -> list[Job]:
    async with database.connection() as connection:
        cursor = await execute_long(connection, database.sql(statement), values)
        rows = await cursor.fetchall()
    return jobs_of(rows)


def jobs_of(rows: list[tuple[Any, ...]]) -> list[Job]:
    """The jobs of a claim's rows, most urgent first: UPDATE … RETURNING has no order of its own."""
    rows.sort(key=lambda row: (-row[_PRIORITY], row[0]))
    return [_job(*row) for row in rows]


def _job(
    id: int, kind: str, queue: str, payload: str, priority: int, attempt: int, max_attempts: int, lease: int,
    lock_key: str | None, batch_id: UUID | None, timeout_seconds: float | None,
    created_at: datetime, started_at: datetime, alone: bool,
    partition_key: str | None = None, weight: float | None = None,
) -> Job:  # fmt: skip
    # By hand and by position: psycopg's class_row makes a dictionary of every row, and there are tens of
    # thousands a second.
    return Job(
        id, kind, queue, _read(payload), priority, attempt, max_attempts, lease, lock_key, batch_id,
        timeout_seconds, created_at, started_at, alone, partition_key, weight or 1.0, weight is not None,
    )  # fmt: skip
