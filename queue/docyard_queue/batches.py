"""Batches: jobs that belong together, how far they are, and what a person may do to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta  # noqa: TC003
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003

from psycopg.rows import class_row

from docyard_queue.batch_callbacks import close_batches, encode_callback
from docyard_schema.errors import NotFound
from docyard_schema.identifiers import new_id
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_queue.jobs import NewJob
    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "batches.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """Counts of a batch's jobs; ``rate`` is jobs ended per second, None before there is one.

    ``state`` is ``running``, ``paused``, ``cancelled`` (what ran then may still be ending), or ``finished``
    when no job waits or runs. Jobs that a job enqueues into its own batch count too, so ``total`` may grow.
    ``callback_job_id`` is None before the callback was enqueued, and where there is none.
    """

    batch_id: UUID
    label: str
    state: str
    total: int
    waiting: int
    running: int
    completed: int
    dead: int
    cancelled: int
    rate: float | None
    eta: timedelta | None
    created_at: datetime
    callback_job_id: int | None

    @property
    def ended(self) -> int:
        """Jobs that are completed, dead or cancelled."""
        return self.completed + self.dead + self.cancelled

    @property
    def has_ended(self) -> bool:
        """Whether no job waits or runs."""
        return not self.waiting and not self.running


async def create_batch(
    database: Database,
    label: str,
    callback: NewJob | None = None,
    *,
    connection: Connection | None = None,
) -> UUID:
    """Make an empty batch; jobs join it by their ``batch_id``.

    ``callback`` is enqueued once, when all of its jobs have ended, however they did; its payload gets the
    ``batch_id``. Add the first jobs in the transaction that makes the batch, and later ones from jobs of the
    batch: else it may end in between. Raises :class:`InvalidInput` for what cannot be a job.
    """
    batch_id = new_id()
    values = {
        "id": batch_id,
        "label": label,
        "callback": None if callback is None else encode_callback(callback),
    }
    async with database.connection(connection) as opened:
        await opened.execute(database.sql(_statements.create_batch), values)
    return batch_id


async def batch_progress(
    database: Database, batch_id: UUID, *, connection: Connection | None = None
) -> BatchProgress:
    """How far a batch is. Raises :class:`NotFound` when there is none of that id."""
    async with database.connection(connection) as opened, opened.cursor() as cursor:
        cursor.row_factory = class_row(BatchProgress)
        await cursor.execute(database.sql(_statements.progress), {"id": batch_id})
        found: BatchProgress | None = await cursor.fetchone()
    if found is None:
        raise _no_batch(batch_id)
    return found


async def list_batches(database: Database, *, limit: int = 20) -> list[BatchProgress]:
    """How far the newest batches are, the newest first."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(BatchProgress)
        await cursor.execute(database.sql(_statements.list_batches), {"limit": limit})
        return await cursor.fetchall()


async def pause_batch(database: Database, batch_id: UUID) -> None:
    """Let workers claim none of its jobs; those that run go on. Raises :class:`NotFound`."""
    await _change(database, batch_id, _statements.set_paused, {"paused": True})


async def resume_batch(database: Database, batch_id: UUID) -> None:
    """Let workers claim its jobs again, at once. Raises :class:`NotFound`."""
    await _change(database, batch_id, _statements.set_paused, {"paused": False})
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.wake), {"id": batch_id})


async def cancel_batch(database: Database, batch_id: UUID) -> tuple[int, int]:
    """Cancel its waiting jobs and ask its running ones to end; returns how many of each.

    Bounded statements, each committed by itself: on an error call it again. Its callback is enqueued as after
    any other end. Raises :class:`NotFound`.
    """
    waiting = running = 0
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.begin_cancel), {"id": batch_id})
        found = await cursor.fetchone()
        while found is not None:
            cursor = await connection.execute(database.sql(_statements.cancel_some), {"id": batch_id})
            asked = [row[0] for row in await cursor.fetchall()]
            if not asked:
                break
            running += sum(asked)
            waiting += len(asked) - sum(asked)
    if found is None:
        await batch_progress(database, batch_id)
    await close_batches(database, [batch_id])
    return waiting, running


async def _change(database: Database, batch_id: UUID, statement: str, values: dict[str, Any]) -> None:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values | {"id": batch_id})
        if await cursor.fetchone() is None:
            raise _no_batch(batch_id)


def _no_batch(batch_id: UUID) -> NotFound:
    return NotFound(
        f"There is no batch {batch_id}.",
        hint="List batches with: docyard batches list",
        operation="batch progress",
    )
