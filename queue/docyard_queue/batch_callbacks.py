"""The job that a batch enqueues when all of its jobs have ended: exactly once, whoever ends the last one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from docyard_queue.enqueue import enqueue_async, past_any_depth
from docyard_queue.jobs import NewJob
from docyard_queue.payload import encode_payload
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from docyard_schema.database import Database

_BATCH_KEY = "batch_id"

_statements = load_statements("docyard_queue", "batches.sql")


def encode_callback(job: NewJob) -> str:
    """A callback as it is kept in its batch. Raises :class:`InvalidInput` for what could not be enqueued."""
    if _BATCH_KEY in job.payload:
        raise InvalidInput(
            f"The payload of a batch's callback has a {_BATCH_KEY!r}, which is put there.",
            operation="create batch",
        )
    payload = json.loads(encode_payload(job))
    return json.dumps(
        {
            "kind": job.kind,
            "payload": payload,
            "queue": job.queue,
            "priority": job.priority,
            "run_at": None if job.run_at is None else job.run_at.isoformat(),
            "max_attempts": job.max_attempts,
            "timeout_seconds": None if job.timeout is None else job.timeout.total_seconds(),
            "unique_key": job.unique_key,
            "lock_key": job.lock_key,
            "batch_id": None if job.batch_id is None else str(job.batch_id),
            "partition_key": job.partition_key,
            "weight": job.weight,
        }
    )


async def close_batches(
    database: Database, batch_ids: Collection[UUID] | None = None
) -> list[tuple[UUID, int]]:
    """Enqueue the callbacks of batches that have ended; returns (batch, callback's job) of those.

    ``batch_ids`` of None looks at all of them, and cancels what was added to cancelled ones meanwhile.
    """
    closed: list[tuple[UUID, int]] = []
    if batch_ids is None:
        async with database.connection() as connection:
            await connection.execute(database.sql(_statements.cancel_late))
    values = {"ids": None if batch_ids is None else list(batch_ids)}
    while True:
        async with database.transaction() as connection:
            cursor = await connection.execute(database.sql(_statements.close_one), values)
            row = await cursor.fetchone()
            if row is None:
                return closed
            batch_id, callback = row
            job = _decode(callback)
            job = replace(job, payload={**job.payload, _BATCH_KEY: str(batch_id)})
            await past_any_depth(connection)
            job_id = await enqueue_async(connection, job, schema=database.namespace.schema)
            await connection.execute(database.sql(_statements.link_callback), {"id": batch_id, "job": job_id})
        closed.append((batch_id, job_id))


def _decode(kept: dict[str, Any]) -> NewJob:
    seconds, run_at, batch_id = kept.pop("timeout_seconds"), kept.pop("run_at"), kept.pop("batch_id")
    return NewJob(
        **kept,
        run_at=None if run_at is None else datetime.fromisoformat(run_at),
        timeout=None if seconds is None else timedelta(seconds=seconds),
        batch_id=None if batch_id is None else UUID(batch_id),
    )
