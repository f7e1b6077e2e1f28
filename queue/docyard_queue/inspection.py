"""Looks at jobs, queues and workers, and does what a person may do to a job: retry it, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.rows import class_row

from docyard_queue.collisions import until_it_passes, until_keys_fit
from docyard_queue.states import JobState
from docyard_queue.views import AttemptRow, JobRow, QueueStats, WorkerRow
from docyard_schema.errors import InvalidInput, NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from docyard_schema.database import Database

_Row = TypeVar("_Row")

statements = load_statements("docyard_queue", "inspection.sql")


class Inspection:
    """Reads the queue's views and changes single jobs on a person's word."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        queue: str | None = None,
        batch_id: UUID | None = None,
        limit: int = 50,
    ) -> list[JobRow]:
        """The newest jobs that fit every filter; None is any."""
        if state is not None and state not in set(JobState):
            raise InvalidInput(
                f"There is no job state {state!r}.", hint=f"Expected one of: {', '.join(JobState)}."
            )
        values = {"state": state, "kind": kind, "queue": queue, "batch": batch_id, "limit": limit}
        return await self._rows(JobRow, statements.list_jobs, values)

    async def job(self, job_id: int) -> JobRow:
        """One job. Raises :class:`NotFound`."""
        rows = await self._rows(JobRow, statements.show_job, {"id": job_id})
        if not rows:
            raise _no_job([job_id])
        return rows[0]

    async def payload_and_result(self, job_id: int) -> tuple[dict[str, Any], Any, Any]:
        """A job's payload, its result and its progress; the last two are None until there are such."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                self._database.sql(statements.payload_and_result), {"id": job_id}
            )
            row = await cursor.fetchone()
        if row is None:
            raise _no_job([job_id])
        return row[0], row[1], row[2]

    async def attempts(self, job_id: int) -> list[AttemptRow]:
        """A job's attempts, the first one first."""
        return await self._rows(AttemptRow, statements.list_attempts, {"id": job_id})

    async def retry(self, job_ids: Sequence[int]) -> list[int]:
        """Make ended jobs wait again with all their attempts; returns those it did it to.

        Running and completed jobs are left as they are. Raises :class:`NotFound` if none of them exists.
        """
        changed = await until_keys_fit(lambda give_up: self._retry(job_ids, give_up_keys=give_up))
        await self._require_any(job_ids, changed)
        return changed

    async def _retry(self, job_ids: Sequence[int], *, give_up_keys: bool) -> list[int]:
        values = {"ids": list(job_ids), "give_up_keys": give_up_keys}
        async with self._database.transaction() as connection:
            cursor = await connection.execute(self._database.sql(statements.retry), values)
            changed = sorted(row[0] for row in await cursor.fetchall())
            if changed:
                await connection.execute(self._database.sql(statements.revive_batches), {"ids": changed})
            for job_id in changed[:1]:
                await connection.execute(self._database.sql(statements.wake), {"id": job_id})
        return changed

    async def cancel(self, job_ids: Sequence[int]) -> dict[int, bool]:
        """Cancel waiting jobs and ask running ones to end; id → whether it is still running.

        Jobs that had ended are left out. Raises :class:`NotFound` if none of them exists.
        """
        changed = await until_it_passes(lambda: self._cancel(job_ids))
        await self._require_any(job_ids, list(changed))
        return changed

    async def _cancel(self, job_ids: Sequence[int]) -> dict[int, bool]:
        async with self._database.connection() as connection:
            cursor = await connection.execute(self._database.sql(statements.cancel), {"ids": list(job_ids)})
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def queues(self) -> list[QueueStats]:
        """Counts by queue."""
        return await self._rows(QueueStats, statements.queue_stats, {})

    async def workers(self) -> list[WorkerRow]:
        """Workers that have not signed off; ``state`` is running, stopping or lost."""
        return await self._rows(WorkerRow, statements.list_workers, {})

    async def unfinished(self, kinds: Sequence[str], queues: Sequence[str] | None) -> int:
        """How many jobs of these kinds run, can run, or will be tried again."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                self._database.sql(statements.count_unfinished),
                {"kinds": list(kinds), "queues": None if queues is None else list(queues)},
            )
            row = await cursor.fetchone()
        return 0 if row is None else int(row[0])

    async def _require_any(self, job_ids: Sequence[int], changed: Sequence[int]) -> None:
        if changed:
            return
        for job_id in job_ids:
            if await self._rows(JobRow, statements.show_job, {"id": job_id}):
                return
        raise _no_job(job_ids)

    async def _rows(self, kind: type[_Row], statement: str, values: dict[str, Any]) -> list[_Row]:
        async with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.row_factory = class_row(kind)
            await cursor.execute(self._database.sql(statement), values)
            return await cursor.fetchall()


def _no_job(job_ids: Sequence[int]) -> NotFound:
    return NotFound(
        f"There is no job {', '.join(map(str, job_ids))}.", hint="List jobs with: docyard jobs list"
    )
