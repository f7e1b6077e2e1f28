"""Batches: jobs that belong together, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta  # noqa: TC003
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003

from psycopg.rows import class_row

from docyard_schema.errors import NotFound
from docyard_schema.identifiers import new_id

if TYPE_CHECKING:
    from docyard_schema.database import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """Counts of a batch's jobs; ``rate`` is jobs ended per second, None before there is one.

    ``state`` is ``running``, or ``finished`` when no job waits or runs. Jobs that a job enqueues into its
    own batch count too, so ``total`` may grow.
    """

    batch_id: UUID
    state: str
    total: int
    waiting: int
    running: int
    completed: int
    dead: int
    cancelled: int
    rate: float | None
    eta: timedelta | None

    @property
    def ended(self) -> int:
        """Jobs that are completed, dead or cancelled."""
        return self.completed + self.dead + self.cancelled


async def create_batch(database: Database, label: str, *, connection: Connection | None = None) -> UUID:
    """Make an empty batch; jobs join it by their ``batch_id``."""
    batch_id = new_id()
    async with database.connection(connection) as opened:
        await opened.execute(
            database.sql("INSERT INTO docyard.batches (id, label) VALUES (%s, %s)"), [batch_id, label]
        )
    return batch_id


async def batch_progress(
    database: Database, batch_id: UUID, *, connection: Connection | None = None
) -> BatchProgress:
    """How far a batch is. Raises :class:`NotFound` when there is none of that id."""
    async with database.connection(connection) as opened, opened.cursor() as cursor:
        cursor.row_factory = class_row(BatchProgress)
        await cursor.execute(
            database.sql(
                "SELECT batch_id, state, total, waiting, running, completed, dead, cancelled, "
                "rate::double precision AS rate, eta FROM docyard.batch_progress WHERE batch_id = %s"
            ),
            [batch_id],
        )
        found: BatchProgress | None = await cursor.fetchone()
    if found is None:
        raise NotFound(f"There is no batch {batch_id}.", operation="batch progress")
    return found
