"""Puts jobs into the queue, inside the caller's transaction: they exist if and only if it commits."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from docyard_queue.errors import QueueError
from docyard_schema.errors import InvalidInput
from docyard_schema.namespace import Namespace
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import psycopg

    from docyard_queue.jobs import NewJob

MAXIMUM_PAYLOAD_BYTES = 1024 * 1024
_ROWS_PER_STATEMENT = 1000
# A unique key's holder may start or end between our INSERT and our SELECT; then we look again.
_LOOKS = 10

# json writes NUL as \\u0000; an even number of backslashes before it would make it plain text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_statements = load_statements("docyard_queue", "enqueue.sql")


def enqueue(connection: psycopg.Connection[Any], job: NewJob, *, schema: str = "docyard") -> int:
    """Add one job; returns its id, or that of the job which waits under the same unique key.

    The caller owns the transaction: nothing is committed here. Raises :class:`InvalidInput` for a payload
    that is not JSON or larger than 1 MiB.
    """
    statement, values = Namespace(schema).sql(_statements.insert_job), _values(job)
    for _ in range(_LOOKS):
        row = connection.execute(statement, values).fetchone()
        if row is not None:
            return int(row[0])
    raise _restless(job)


async def enqueue_async(
    connection: psycopg.AsyncConnection[Any], job: NewJob, *, schema: str = "docyard"
) -> int:
    """:func:`enqueue` on an asynchronous connection."""
    statement, values = Namespace(schema).sql(_statements.insert_job), _values(job)
    for _ in range(_LOOKS):
        row = await (await connection.execute(statement, values)).fetchone()
        if row is not None:
            return int(row[0])
    raise _restless(job)


async def enqueue_many(
    connection: psycopg.AsyncConnection[Any], jobs: Iterable[NewJob], *, schema: str = "docyard"
) -> list[int]:
    """Add many jobs in few statements; returns their ids in the order given.

    Jobs with a unique key go one by one, in the order of their keys: two callers that add the same keys
    cannot wait for each other.
    """
    namespace, wanted = Namespace(schema), list(jobs)
    ids: dict[int, int] = {}
    plain = [(position, job) for position, job in enumerate(wanted) if job.unique_key is None]
    for part in _parts(plain):
        cursor = await connection.execute(
            namespace.sql(_statements.insert_jobs), _columns([job for _, job in part])
        )
        made = sorted(int(row[0]) for row in await cursor.fetchall())
        ids |= dict(zip((position for position, _ in part), made, strict=True))
    keyed = [(position, job) for position, job in enumerate(wanted) if job.unique_key is not None]
    for position, job in sorted(keyed, key=lambda entry: entry[1].unique_key or ""):
        ids[position] = await enqueue_async(connection, job, schema=schema)
    return [ids[position] for position in range(len(wanted))]


def encode_payload(job: NewJob) -> str:
    """The payload as JSON text. Raises :class:`InvalidInput` when Postgres could not keep it as jsonb."""
    try:
        text = json.dumps(job.payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"The payload of a {job.kind!r} job is not JSON: {error}",
            hint="Use strings, numbers, booleans, None, lists and dicts; a pydantic model with model_dump.",
            operation="enqueue",
        ) from error
    if size > MAXIMUM_PAYLOAD_BYTES:
        raise InvalidInput(
            f"The payload of a {job.kind!r} job has {size:,} bytes; the most is {MAXIMUM_PAYLOAD_BYTES:,}.",
            hint="Store the data, and put its address into the payload.",
            operation="enqueue",
        )
    if _NUL.search(text):
        raise InvalidInput(
            f"The payload of a {job.kind!r} job contains a NUL character, which Postgres cannot store.",
            operation="enqueue",
        )
    return text


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


def _columns(jobs: Sequence[NewJob]) -> dict[str, list[Any]]:
    rows = [_values(job) for job in jobs]
    names = {
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
    return {plural: [row[name] for row in rows] for name, plural in names.items()}


def _parts(rows: Sequence[tuple[int, NewJob]]) -> Iterator[Sequence[tuple[int, NewJob]]]:
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield rows[start : start + _ROWS_PER_STATEMENT]


def _restless(job: NewJob) -> QueueError:
    return QueueError(
        f"The unique key {job.unique_key!r} changed hands {_LOOKS} times while a job was enqueued under it.",
        hint="Try again; if it stays so, jobs under this key start and end faster than they are enqueued.",
        operation="enqueue",
    )
