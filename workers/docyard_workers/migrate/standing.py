"""How far a reembed is, and how it ended, as its batch and its last job say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

from docyard_schema.errors import NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from docyard_schema import Database

_statements = load_statements("docyard_workers.migrate", "planning.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A reembed's ranges counted in chunks (``chunks``, ``done``, of these ``dead``), and its last job.

    ``queue_stopped`` is why the queue ``migrate`` is paused, None when it is not: a provider that wants
    another key, or a person. ``last_job_id`` is None before the ranges have ended; ``result`` is what that
    job left when it was completed, ``progress`` what it last reported, ``error_message`` why it gave up.
    """

    model: str
    paused: bool
    cancelled: bool
    ranges_ended: bool
    queue_stopped: str | None
    chunks: int
    done: int
    dead: int
    last_job_id: int | None
    last_status: str | None
    result: dict[str, Any] | None
    progress: dict[str, Any] | None
    error_code: str | None
    error_message: str | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.last_status is not None and self.last_status not in ("todo", "doing")

    @property
    def has_failed(self) -> bool:
        """Whether it gave up; ``error_message`` says why."""
        return self.last_status == "failed"

    @property
    def phase(self) -> str:
        """``filling`` or ``paused``; then ``waiting``, ``indexing``, ``verifying``, ``activating``; at the
        end ``done``, ``failed`` or ``cancelled``.
        """
        if self.has_ended:
            words = {"succeeded": "done", "failed": "failed"}
            return words.get(self.last_status or "", "cancelled")
        if self.queue_stopped is not None or (self.paused and not self.ranges_ended):
            return "paused"
        if not self.ranges_ended:
            return "filling"
        return str((self.progress or {}).get("phase", "verifying"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRange:
    """A range job that was given up, and why."""

    job_id: int
    first: int | None
    last: int | None
    code: str | None
    message: str | None


async def standing(database: Database, batch_id: UUID) -> Standing:
    """How far the reembed of this batch is. Raises :class:`NotFound` when there is none."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(Standing)
        await cursor.execute(database.sql(_statements.standing), {"batch": batch_id})
        found: Standing | None = await cursor.fetchone()
    if found is None:
        raise NotFound(f"There is no reembed of the batch {batch_id}.", operation="reembed")
    return found


async def unfinished_jobs(database: Database, model: str) -> int:
    """How many jobs wait or run that bring vectors of this model beside its ``embed`` jobs."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.unfinished), {"model": model})
        row = await cursor.fetchone()
    return row[0] if row else 0


async def dead_ranges(database: Database, batch_id: UUID, *, limit: int = 20) -> Sequence[DeadRange]:
    """The first ranges of a batch that were given up."""
    async with database.connection() as connection:
        values = {"batch": batch_id, "limit": limit}
        cursor = await connection.execute(database.sql(_statements.dead_ranges), values)
        return [
            DeadRange(job_id=row[0], first=row[1], last=row[2], code=row[3], message=row[4])
            for row in await cursor.fetchall()
        ]


async def last_progress(database: Database, job_id: int) -> dict[str, Any]:
    """What a job reported last, in this attempt or one before; empty when nothing."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.last_progress), {"job": job_id})
        row = await cursor.fetchone()
    return dict(row[0]) if row and row[0] else {}
