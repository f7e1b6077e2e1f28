"""Ends attempts. Every write names job and lease; no row back means that the lease was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import psycopg

from docyard_queue.collisions import until_keys_fit
from docyard_queue.kept_text import MAXIMUM_MESSAGE, MAXIMUM_NAME, MAXIMUM_TRACEBACK, clean, encode_result
from docyard_queue.outcomes import Cancel, Done, Failure, Snooze
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_schema.database import Connection, Database

statements = load_statements("docyard_queue", "finish.sql")

# Ten years: more is out of a timestamp's range sooner or later, and a finish must not fail for it.
_LONGEST_DELAY_SECONDS = 10 * 365 * 86400.0


async def complete(database: Database, finished: Sequence[tuple[Job, Any]]) -> list[Job]:
    """Complete many attempts with their results; returns those whose lease was lost.

    It may be done again when the answer was lost: what was completed under the lease already counts as done.
    """
    values = _completions(finished)
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statements.complete), values)
        done = set(await cursor.fetchall())
        if len(done) < len(finished):
            cursor = await connection.execute(database.sql(statements.completed_before), values)
            done |= set(await cursor.fetchall())
    return [job for job, _ in finished if (job.id, job.lease) not in done]


async def complete_held(
    database: Database, connection: Connection, finished: Sequence[tuple[Job, Any]]
) -> set[tuple[int, int]]:
    """Complete, in the caller's transaction, those attempts whose lease holds; their ids and leases."""
    if not finished:
        return set()
    cursor = await connection.execute(database.sql(statements.complete_held), _completions(finished))
    return {(job_id, lease) for job_id, lease in await cursor.fetchall()}


async def settle(database: Database, job: Job, outcome: Outcome) -> bool:
    """Write what became of one attempt; False when its lease was lost and nothing was written."""
    match outcome:
        case Done():
            return not await complete(database, [(job, outcome.result)])
        case Failure():
            return await _fail(database, job, outcome)
        case Snooze():
            return await put_back(
                database, job.id, job.lease, outcome="snoozed", delay=outcome.delay, message=outcome.reason
            )
        case Cancel():
            values = {"id": job.id, "lease": job.lease, "reason": clean(outcome.reason, MAXIMUM_MESSAGE)}
            return await _write(database, statements.cancel_running, values)


async def put_back(
    database: Database,
    job_id: int,
    lease: int,
    *,
    outcome: Literal["snoozed", "released"],
    delay: timedelta | None = None,
    message: str = "",
) -> bool:
    """Make a job wait again without counting its attempt; False when the lease was lost."""
    return await _write_keyed(
        database,
        statements.put_back,
        {
            "id": job_id,
            "lease": lease,
            "outcome": outcome,
            "delay": _seconds(delay) if delay is not None else 0.0,
            "message": clean(message, MAXIMUM_MESSAGE) or None,
        },
    )


async def put_back_many(
    database: Database, jobs: Sequence[tuple[Job, Snooze | None, str]]
) -> set[tuple[int, int]]:
    """:func:`put_back` of many jobs in one statement: snoozed, or without a snooze released for a reason.

    Returns the ids and leases of those that were put back; the others' leases were lost.
    """
    jobs = sorted(jobs, key=lambda given: given[0].id)
    values: dict[str, Any] = {
        "ids": [job.id for job, _, _ in jobs],
        "leases": [job.lease for job, _, _ in jobs],
        "outcomes": ["released" if snooze is None else "snoozed" for _, snooze, _ in jobs],
        "delays": [0.0 if snooze is None else _seconds(snooze.delay) for _, snooze, _ in jobs],
        "messages": [
            clean(reason if snooze is None else snooze.reason, MAXIMUM_MESSAGE) or None
            for _, snooze, reason in jobs
        ],
    }

    async def write(give_up_keys: bool) -> set[tuple[int, int]]:
        async with database.connection() as connection:
            cursor = await connection.execute(
                database.sql(statements.put_back_many), values | {"give_up_keys": give_up_keys}
            )
            return {(job_id, lease) for job_id, lease in await cursor.fetchall()}

    return await until_keys_fit(write)


async def begin_alone(database: Database, job: Job) -> bool:
    """Write down that a job which must run alone begins now; False when its lease was lost."""
    return await _write(database, statements.begin_alone, {"id": job.id, "lease": job.lease})


async def begin_together(database: Database, jobs: Sequence[Job]) -> set[tuple[int, int]]:
    """Write down that jobs which must run alone begin in one child; ids and leases of those still held."""
    return await _select(database, statements.begin_together, jobs)


async def began_together(database: Database, jobs: Sequence[Job]) -> set[tuple[int, int]]:
    """Those of these jobs that began so in a worker which was lost: now each has to begin by itself."""
    return await _select(database, statements.began_together, jobs)


async def completed_of(database: Database, jobs: Sequence[Job]) -> set[tuple[int, int]]:
    """Those of these attempts that have completed their jobs."""
    return await _select(database, statements.completed_before, jobs)


async def _select(database: Database, statement: str, jobs: Sequence[Job]) -> set[tuple[int, int]]:
    values = {"ids": [job.id for job in jobs], "leases": [job.lease for job in jobs]}
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values)
        return {(job_id, lease) for job_id, lease in await cursor.fetchall()}


async def is_completed(database: Database, job: Job) -> bool:
    """Whether this very attempt completed the job: its handler's process may have died in the next moment."""
    return await _write(database, statements.is_completed, {"id": job.id, "lease": job.lease})


def _completions(finished: Sequence[tuple[Job, Any]]) -> dict[str, Any]:
    finished = sorted(finished, key=lambda pair: pair[0].id)
    encoded = [encode_result(result) for _, result in finished]
    return {
        # As text: psycopg takes three times as long to write a list of numbers as an array.
        "ids": f"{{{','.join([str(job.id) for job, _ in finished])}}}",
        "leases": f"{{{','.join([str(job.lease) for job, _ in finished])}}}",
        "results": encoded if any(encoded) else None,
    }


async def _fail(database: Database, job: Job, failure: Failure) -> bool:
    return await _write_keyed(
        database,
        statements.fail,
        {
            "id": job.id,
            "lease": job.lease,
            "retry_in": None if failure.retry_in is None else _seconds(failure.retry_in),
            "outcome": "crashed" if failure.crashed else "failed",
            "code": clean(failure.code, MAXIMUM_NAME),
            "error_class": None if failure.crashed else clean(failure.error_class, MAXIMUM_NAME),
            "message": clean(failure.message, MAXIMUM_MESSAGE),
            "traceback": None if failure.crashed else clean(failure.traceback, MAXIMUM_TRACEBACK, keep="end"),
        },
    )


async def _write_keyed(database: Database, statement: str, values: dict[str, Any]) -> bool:
    try:
        return await _write(database, statement, values | {"give_up_key": False})
    except psycopg.errors.UniqueViolation:
        # A sibling with the same unique key began to wait after our look. The job waits without its key.
        return await _write(database, statement, values | {"give_up_key": True})


async def _write(database: Database, statement: str, values: dict[str, Any]) -> bool:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values)
        return cursor.rowcount == 1


def _seconds(delay: timedelta) -> float:
    return min(max(delay.total_seconds(), 0.0), _LONGEST_DELAY_SECONDS)
