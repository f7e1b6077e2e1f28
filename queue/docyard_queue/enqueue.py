"""Puts jobs into the queue, inside the caller's transaction: they exist if and only if it commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

from docyard_queue.errors import QueueFull
from docyard_queue.payload import encode_payload
from docyard_schema.namespace import Namespace
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_queue.jobs import NewJob

statements = load_statements("docyard_queue", "enqueue.sql")


def enqueue(connection: psycopg.Connection[Any], job: NewJob, *, schema: str = "docyard") -> int:
    """Add one job; returns its id, or that of the job which holds its unique key.

    The caller owns the transaction: nothing is committed here. Raises :class:`InvalidInput` for a payload
    that is not JSON or larger than 1 MiB, and :class:`QueueFull` when the queue has reached its depth.
    """
    # A cursor of our own: the connection's may make other rows, or take other placeholders.
    with refusals(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return _one_id(cursor.execute(_statement(job, schema), _values(job)).fetchone())


async def enqueue_async(
    connection: psycopg.AsyncConnection[Any], job: NewJob, *, schema: str = "docyard"
) -> int:
    """:func:`enqueue` on an asynchronous connection."""
    with refusals():
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(_statement(job, schema), _values(job))
            return _one_id(await cursor.fetchone())


async def past_any_depth(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let this transaction enqueue into full queues too: for what only comes once."""
    await connection.execute(b"SELECT set_config('docyard.any_depth', 'on', true)")


@contextmanager
def refusals() -> Iterator[None]:
    """What the database refuses, as an error of ours."""
    try:
        yield
    except psycopg.errors.ConfigurationLimitExceeded as error:
        told = error.diag
        raise QueueFull(told.message_primary or str(error), hint=told.message_hint or "") from error


def _statement(job: NewJob, schema: str) -> bytes:
    keyed = job.unique_key is not None
    return Namespace(schema).sql(statements.insert_keyed_job if keyed else statements.insert_job)


def _one_id(row: tuple[Any, ...] | None) -> int:
    assert row is not None  # noqa: S101 - RETURNING of one row, or a function's value
    return int(row[0])


def _values(job: NewJob) -> dict[str, Any]:
    return {
        "kind": job.kind,
        "payload": encode_payload(job),
        "queue": job.queue,
        "priority": job.priority,
        "run_at": job.run_at,
        "max_attempts": job.max_attempts,
        "timeout": None if job.timeout is None else job.timeout.total_seconds(),
        "unique_key": job.unique_key,
        "lock_key": job.lock_key,
        "batch_id": job.batch_id,
        "unique_scope": job.unique_scope,
        "unique_for": job.unique_for,
        "partition_key": job.partition_key,
        "weight": job.weight,
    }
