"""A reembed in the queue: a batch of ranges to fill, and the job that comes after the last of them.

What is planned is what is missing, so a plan that is made again goes on where the last one ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a field

from docyard_queue import NewJob, create_batch, enqueue_many
from docyard_schema.embeddings.coverage import missing_ranges, unhurried
from docyard_schema.errors import Conflict
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema import Connection, Database, EmbeddingModel

KIND = "reembed"
RANGE_KIND = "backfill"
QUEUE = "migrate"

CHUNKS_PER_RANGE = 1_000
# Workers that serve all queues do today's documents first.
_PRIORITY = -10
_JOBS_PER_STATEMENT = 1_000

_statements = load_statements("docyard_workers.migrate", "planning.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A reembed that is under way: its batch, and whether it was so before (``joined``)."""

    batch_id: UUID
    joined: bool
    paused: bool = False


async def begin(
    database: Database, model: EmbeddingModel, *, activate: bool, size: int | None = None
) -> Begun:
    """Plan what ``model`` lacks as one batch, or join the one that is under way: never two.

    One transaction, so that a crash leaves all of it or nothing. Raises :class:`Conflict` while a reembed to
    another model is under way.
    """
    async with unhurried(database) as connection:
        await connection.execute(_statements.one_at_a_time)
        found = await require_free(database, model.name, connection=connection)
        if found is not None:
            return found
        callback = NewJob(KIND, {"model": model.name, "activate": activate}, queue=QUEUE)
        batch_id = await create_batch(database, f"reembed {model.name}", callback, connection=connection)
        await add_ranges(database, model, batch_id, size=size, connection=connection)
    return Begun(batch_id=batch_id, joined=False)


async def require_free(
    database: Database, name: str, *, connection: Connection | None = None
) -> Begun | None:
    """The reembed to this model that is under way; None when there is none.

    Raises :class:`Conflict` when one to another model is.
    """
    async with database.connection(connection) as opened:
        cursor = await opened.execute(database.sql(_statements.under_way))
        found = await cursor.fetchone()
    if found is None:
        return None
    batch_id, other, paused = found
    if other != name:
        raise Conflict(
            f"A reembed to {other} is under way, as batch {batch_id}; two would race for the cut-over.",
            hint=f"Wait for it (docyard migrate reembed --model {other}), "
            f"or end it: docyard batches cancel {batch_id}",
            operation="reembed",
        )
    return Begun(batch_id=batch_id, joined=True, paused=paused)


async def add_ranges(
    database: Database,
    model: EmbeddingModel,
    batch_id: UUID,
    *,
    size: int | None = None,
    connection: Connection,
) -> None:
    """Enqueue what ``model`` lacks into a batch, in the caller's transaction.

    Where nothing is missing there is one job that finds nothing: a batch without jobs would never end.
    """
    jobs: list[NewJob] = []
    enqueued = False
    async for job in _range_jobs(database, model, batch_id, size or CHUNKS_PER_RANGE, connection):
        jobs.append(job)
        if len(jobs) == _JOBS_PER_STATEMENT:
            await enqueue_many(connection, jobs, schema=database.namespace.schema)
            jobs, enqueued = [], True
    if not jobs and not enqueued:
        jobs = [_range_job(model, batch_id, first=0, last=0, chunks=1)]
    await enqueue_many(connection, jobs, schema=database.namespace.schema)


async def _range_jobs(
    database: Database, model: EmbeddingModel, batch_id: UUID, size: int, connection: Connection
) -> AsyncIterator[NewJob]:
    async for part in missing_ranges(database, model, size=size, connection=connection):
        yield _range_job(model, batch_id, first=part.first, last=part.last, chunks=part.chunks)


def _range_job(model: EmbeddingModel, batch_id: UUID, *, first: int, last: int, chunks: int) -> NewJob:
    return NewJob(
        RANGE_KIND,
        {"model": model.name, "first": first, "last": last},
        queue=QUEUE,
        priority=_PRIORITY,
        batch_id=batch_id,
        weight=chunks,
    )
