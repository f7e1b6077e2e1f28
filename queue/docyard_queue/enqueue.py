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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from docyard_queue.jobs import NewJob

_ROWS_PER_STATEMENT = 1000
_BYTES_PER_STATEMENT = 8 * 1024 * 1024

# A parameter of insert_job → its array in insert_jobs.
_ARRAYS = {
    "kind": "kinds",
    "payload": "payloads",
    "queue": "queues",
    "priority": "priorities",
    "run_at": "run_ats",
    "max_attempts": "max_attempts",
    "timeout": "timeouts",
    "lock_key": "lock_keys",
    "batch_id": "batch_ids",
    "partition_key": "partition_keys",
    "weight": "weights",
}
_KEYED_ARRAYS = _ARRAYS | {
    "unique_key": "unique_keys",
    "unique_scope": "unique_scopes",
    "unique_for": "unique_fors",
}

_statements = load_statements("docyard_queue", "enqueue.sql")


def enqueue(connection: psycopg.Connection[Any], job: NewJob, *, schema: str = "docyard") -> int:
    """Add one job; returns its id, or that of the job which holds its unique key.

    The caller owns the transaction: nothing is committed here. Raises :class:`InvalidInput` for a payload
    that is not JSON or larger than 1 MiB, and :class:`QueueFull` when the queue has reached its depth.
    """
    # A cursor of our own: the connection's may make other rows, or take other placeholders.
    with _refusals(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return _one_id(cursor.execute(_statement(job, schema), _values(job)).fetchone())


async def enqueue_async(
    connection: psycopg.AsyncConnection[Any], job: NewJob, *, schema: str = "docyard"
) -> int:
    """:func:`enqueue` on an asynchronous connection."""
    with _refusals():
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(_statement(job, schema), _values(job))
            return _one_id(await cursor.fetchone())


async def enqueue_many(
    connection: psycopg.AsyncConnection[Any], jobs: Iterable[NewJob], *, schema: str = "docyard"
) -> list[int]:
    """Add many jobs in few statements; returns their ids in the order given.

    All of them are checked before the first is sent. Several statements: on a connection in autocommit,
    open a transaction around it. Jobs with a unique key go in the order of their keys: two callers that add
    the same keys cannot wait for each other.
    """
    wanted = [(position, job, _values(job)) for position, job in enumerate(jobs)]
    ids: dict[int, int] = {}
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        plain = [(position, values) for position, job, values in wanted if job.unique_key is None]
        for part in _parts(plain):
            # Ids are handed out in the order of the rows; how they come back is not said.
            made = sorted(await _insert(cursor, _statements.insert_jobs, _ARRAYS, part, schema))
            ids |= dict(zip((position for position, _ in part), made, strict=True))
        keyed = [(position, values) for position, job, values in wanted if job.unique_key is not None]
        for part in _parts(sorted(keyed, key=_by_key)):
            found = await _insert(cursor, _statements.insert_keyed_jobs, _KEYED_ARRAYS, part, schema)
            ids |= dict(zip((position for position, _ in part), found, strict=True))
    return [ids[position] for position in range(len(wanted))]


async def past_any_depth(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let this transaction enqueue into full queues too: for what only comes once."""
    await connection.execute(b"SELECT set_config('docyard.any_depth', 'on', true)")


async def _insert(
    cursor: psycopg.AsyncCursor[Any],
    statement: str,
    arrays: Mapping[str, str],
    part: Sequence[tuple[int, Mapping[str, Any]]],
    schema: str,
) -> list[int]:
    columns = {array: _column(name, part) for name, array in arrays.items()}
    with _refusals():
        await cursor.execute(Namespace(schema).sql(statement), columns)
    return [int(row[0]) for row in await cursor.fetchall()]


@contextmanager
def _refusals() -> Iterator[None]:
    """What the database refuses, as an error of ours."""
    try:
        yield
    except psycopg.errors.ConfigurationLimitExceeded as error:
        told = error.diag
        raise QueueFull(told.message_primary or str(error), hint=told.message_hint or "") from error


def _statement(job: NewJob, schema: str) -> bytes:
    keyed = job.unique_key is not None
    return Namespace(schema).sql(_statements.insert_keyed_job if keyed else _statements.insert_job)


def _one_id(row: tuple[Any, ...] | None) -> int:
    assert row is not None  # noqa: S101 - RETURNING of one row, or a function's value
    return int(row[0])


def _by_key(entry: tuple[int, Mapping[str, Any]]) -> tuple[str, bool]:
    """The one order in which keys are taken; the second part tells the two kinds of keys apart."""
    _, values = entry
    return values["unique_key"], values["unique_scope"] == "waiting" and values["unique_for"] is None


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


def _column(name: str, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Any] | None:
    """One value per row. None when no row has any: unnest() fills up a missing array with NULLs."""
    column = [values[name] for _, values in rows]
    return None if column.count(None) == len(column) else column


def _parts(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
) -> Iterator[Sequence[tuple[int, Mapping[str, Any]]]]:
    part: list[tuple[int, Mapping[str, Any]]] = []
    size = 0
    for row in rows:
        if part and (len(part) == _ROWS_PER_STATEMENT or size > _BYTES_PER_STATEMENT):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row[1]["payload"])
    if part:
        yield part
