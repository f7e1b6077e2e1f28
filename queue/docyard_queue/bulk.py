"""Puts many jobs into the queue in few statements, inside the caller's transaction."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from docyard_queue.enqueue import refusals, statements
from docyard_queue.payload import encode_payload
from docyard_schema.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from docyard_queue.jobs import NewJob

_ROWS_PER_STATEMENT = 1000
_BYTES_PER_STATEMENT = 8 * 1024 * 1024

# Each parameter of the statements beside the payload: its array's name, and how it is read from a job.
_Arrays: TypeAlias = "Mapping[str, tuple[str, Callable[[NewJob], Any]]]"
_ARRAYS: _Arrays = {
    "kind": ("kinds", attrgetter("kind")),
    "queue": ("queues", attrgetter("queue")),
    "priority": ("priorities", attrgetter("priority")),
    "run_at": ("run_ats", attrgetter("run_at")),
    "max_attempts": ("all_max_attempts", attrgetter("max_attempts")),
    "timeout": ("timeouts", lambda job: None if job.timeout is None else job.timeout.total_seconds()),
    "lock_key": ("lock_keys", attrgetter("lock_key")),
    "batch_id": ("batch_ids", attrgetter("batch_id")),
    "partition_key": ("partition_keys", attrgetter("partition_key")),
    "weight": ("weights", attrgetter("weight")),
}
_KEYED_ARRAYS: _Arrays = {
    **_ARRAYS,
    "unique_key": ("unique_keys", attrgetter("unique_key")),
    "unique_scope": ("unique_scopes", attrgetter("unique_scope")),
    "unique_for": ("unique_fors", attrgetter("unique_for")),
}


async def enqueue_many(
    connection: psycopg.AsyncConnection[Any], jobs: Iterable[NewJob], *, schema: str = "docyard"
) -> list[int]:
    """Add many jobs in few statements; returns their ids in the order given.

    All of them are checked before the first is sent. Several statements: on a connection in autocommit,
    open a transaction around it. Jobs with a unique key go in the order of their keys: two callers that add
    the same keys cannot wait for each other.
    """
    jobs = list(jobs)
    payloads = [encode_payload(job) for job in jobs]
    plain = [position for position, job in enumerate(jobs) if job.unique_key is None]
    keyed = [position for position, job in enumerate(jobs) if job.unique_key is not None]
    keyed.sort(key=lambda position: _key(jobs[position]))
    ids = [0] * len(jobs)
    sent: list[tuple[psycopg.AsyncCursor[Any], Sequence[int]]] = []

    async def send(statement: str, arrays: _Arrays, part: Sequence[int]) -> None:
        values = _columns(arrays, [jobs[position] for position in part])
        values["payloads"] = [payloads[position] for position in part]
        cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        await cursor.execute(Namespace(schema).sql(statement), values)
        sent.append((cursor, part))

    with refusals():
        # The server runs a statement while the next one is put together.
        async with connection.pipeline():
            for part in _parts(plain, payloads):
                await send(statements.insert_jobs, _ARRAYS, part)
            for part in _parts(keyed, payloads):
                await send(statements.insert_keyed_jobs, _KEYED_ARRAYS, part)
        for cursor, part in sent:
            made = [int(row[0]) for row in await cursor.fetchall()]
            if jobs[part[0]].unique_key is None:
                # Ids are handed out in the order of the rows; how they come back is not said.
                made.sort()
            for position, job_id in zip(part, made, strict=True):
                ids[position] = job_id
    return ids


def _key(job: NewJob) -> tuple[str | None, bool]:
    """The one order in which keys are taken; the second part tells the two kinds of keys apart."""
    return job.unique_key, job.unique_scope == "waiting" and job.unique_for is None


def _columns(arrays: _Arrays, jobs: Sequence[NewJob]) -> dict[str, Any]:
    """What all jobs have alike is said once, and its array left out: unnest() fills that up with NULLs."""
    values: dict[str, Any] = {}
    for name, (array, read) in arrays.items():
        column = [read(job) for job in jobs]
        alike = column.count(column[0]) == len(column)
        values[name] = column[0] if alike else None
        values[array] = None if alike else column
    return values


def _parts(positions: Sequence[int], payloads: Sequence[str]) -> Iterator[Sequence[int]]:
    part: list[int] = []
    size = 0
    for position in positions:
        if part and (len(part) == _ROWS_PER_STATEMENT or size > _BYTES_PER_STATEMENT):
            yield part
            part, size = [], 0
        part.append(position)
        size += len(payloads[position])
    if part:
        yield part
