"""Ends attempts. Every write names job and lease; no row back means that the lease was lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg

from docyard_queue.outcomes import Cancel, Done, Failure, Snooze
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_schema.database import Database

statements = load_statements("docyard_queue", "finish.sql")

MAXIMUM_MESSAGE = 2_000
MAXIMUM_TRACEBACK = 20_000


async def complete(database: Database, finished: Sequence[tuple[Job, Any]]) -> list[Job]:
    """Complete many attempts with their results; returns those whose lease was lost."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(statements.complete),
            {
                "ids": [job.id for job, _ in finished],
                "leases": [job.lease for job, _ in finished],
                "results": [encode_result(result) for _, result in finished],
            },
        )
        done = {row[0] for row in await cursor.fetchall()}
    return [job for job, _ in finished if job.id not in done]


async def settle(database: Database, job: Job, outcome: Outcome) -> bool:
    """Write what became of one attempt; False when its lease was lost and nothing was written."""
    match outcome:
        case Done():
            return not await complete(database, [(job, outcome.result)])
        case Failure():
            return await _fail(database, job, outcome)
        case Snooze():
            return await put_back(database, job, outcome="snoozed", delay=outcome.delay)
        case Cancel():
            values = {"id": job.id, "lease": job.lease, "reason": clean(outcome.reason, MAXIMUM_MESSAGE)}
            return await _write(database, statements.cancel_running, values)


async def put_back(
    database: Database, job: Job, *, outcome: str, delay: timedelta | None = None, message: str = ""
) -> bool:
    """Make a job wait again without counting its attempt: ``outcome`` is ``snoozed`` or ``released``."""
    return await _write_keyed(
        database,
        statements.put_back,
        {
            "id": job.id,
            "lease": job.lease,
            "outcome": outcome,
            "delay": delay.total_seconds() if delay else 0.0,
            "message": clean(message, MAXIMUM_MESSAGE) or None,
        },
    )


async def _fail(database: Database, job: Job, failure: Failure) -> bool:
    return await _write_keyed(
        database,
        statements.fail,
        {
            "id": job.id,
            "lease": job.lease,
            "retry_in": None if failure.retry_in is None else failure.retry_in.total_seconds(),
            "code": failure.code,
            "error_class": failure.error_class,
            "message": clean(failure.message, MAXIMUM_MESSAGE),
            "traceback": clean(failure.traceback, MAXIMUM_TRACEBACK),
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


def encode_result(result: Any) -> str | None:
    """A handler's result as JSON text; None stays None. What is not JSON is kept as its ``repr``."""
    if result is None:
        return None
    try:
        text = json.dumps(result, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(repr(result)[:MAXIMUM_MESSAGE])
    # The finish must not fail for what a handler returned: jsonb refuses NUL.
    return text.replace("\\u0000", "\\ufffd")


def clean(text: str, limit: int) -> str:
    """Text that Postgres takes and a page can show: no NUL, no lone surrogates, at most ``limit`` long."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"
