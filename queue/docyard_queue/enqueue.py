"""Puts jobs into the queue, inside the caller's transaction: they exist if and only if it commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

from docyard_queue.errors import QueueError
from docyard_queue.payload import encode_payload
from docyard_schema.namespace import Namespace
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from docyard_queue.jobs import NewJob

_ROWS_PER_STATEMENT = 1000
_BYTES_PER_STATEMENT = 8 * 1024 * 1024
# A unique key's holder may start or end between our INSERT and our SELECT; then we look again.
_LOOKS = 10

# A parameter of insert_job → its array in insert_jobs. Unique keys have none: they go one by one.
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
}

_statements = load_statements("docyard_queue", "enqueue.sql")


def enqueue(connection: psycopg.Connection[Any], job: NewJob, *, schema: str = "docyard") -> int:
    """Add one job; returns its id, or that of the job which waits under the same unique key.

    The caller owns the transaction: nothing is committed here. Raises :class:`InvalidInput` for a payload
    that is not JSON or larger than 1 MiB.
    """
    statement, values = Namespace(schema).sql(_statements.insert_job), _values(job)
    # A cursor of our own: the connection's may make other rows, or take other placeholders.
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        for _ in range(_LOOKS):
            row = cursor.execute(statement, values).fetchone()
            if row is not None:
                return int(row[0])
    raise _restless(job)


async def enqueue_async(
    connection: psycopg.AsyncConnection[Any], job: NewJob, *, schema: str = "docyard"
) -> int:
    """:func:`enqueue` on an asynchronous connection."""
    return await _enqueue_values(connection, job, _values(job), schema)


async def enqueue_many(
    connection: psycopg.AsyncConnection[Any], jobs: Iterable[NewJob], *, schema: str = "docyard"
) -> list[int]:
    """Add many jobs in few statements; returns their ids in the order given.

    All of them are checked before the first is sent. Several statements: on a connection in autocommit,
    open a transaction around it. Jobs with a unique key go one by one, in the order of their keys: two
    callers that add the same keys cannot wait for each other.
    """
    wanted = [(position, job, _values(job)) for position, job in enumerate(jobs)]
    ids: dict[int, int] = {}
    statement = Namespace(schema).sql(_statements.insert_jobs)
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        plain = [(position, values) for position, job, values in wanted if job.unique_key is None]
        for part in _parts(plain):
            columns = {array: _column(name, part) for name, array in _ARRAYS.items()}
            await cursor.execute(statement, columns)
            made = sorted(int(row[0]) for row in await cursor.fetchall())
            ids |= dict(zip((position for position, _ in part), made, strict=True))
    keyed = [entry for entry in wanted if entry[1].unique_key is not None]
    for position, job, values in sorted(keyed, key=lambda entry: entry[1].unique_key or ""):
        ids[position] = await _enqueue_values(connection, job, values, schema)
    return [ids[position] for position in range(len(wanted))]


async def _enqueue_values(
    connection: psycopg.AsyncConnection[Any], job: NewJob, values: dict[str, Any], schema: str
) -> int:
    statement = Namespace(schema).sql(_statements.insert_job)
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        for _ in range(_LOOKS):
            await cursor.execute(statement, values)
            row = await cursor.fetchone()
            if row is not None:
                return int(row[0])
    raise _restless(job)


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


def _restless(job: NewJob) -> QueueError:
    return QueueError(
        f"The unique key {job.unique_key!r} changed hands {_LOOKS} times while a job was enqueued under it.",
        hint="Try again; if it stays so, jobs under this key start and end faster than they are enqueued.",
        operation="enqueue",
    )
