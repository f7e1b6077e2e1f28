"""One attempt of one job, as its handler sees it."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from docyard_queue.enqueue import enqueue_many
from docyard_queue.errors import LeaseLost, QueueError
from docyard_queue.finish import encode_result, statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    import psycopg

    from docyard_queue.jobs import Job, NewJob
    from docyard_schema.database import Connection, Database


class Attempt:
    """What a handler gets beside its payload: the job, and the fenced way to write.

    ``committed`` is True once the job was completed by :meth:`commit`; ``cancel_requested`` once somebody
    asked for the job's end (an async handler is cancelled as well, a sync one may look).
    """

    def __init__(
        self,
        job: Job,
        database: Database,
        sync_connection: Callable[[], AbstractContextManager[psycopg.Connection[Any]]] | None = None,
    ) -> None:
        self.job = job
        self.database = database
        self.committed = False
        self.cancel_requested = False
        self._sync_connection = sync_connection

    @property
    def number(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.job.attempt

    @asynccontextmanager
    async def commit(self, result: Any = None) -> AsyncIterator[Connection]:
        """A transaction in which the job is complete; what the block writes commits with it, or nothing does.

        ::

            async with attempt.commit() as connection:
                await connection.execute("INSERT INTO effects …")

        Raises :class:`LeaseLost`, before the block, when another worker has the job by now. A handler may
        do it once, as its last act: what it raises afterwards is logged and changes nothing.
        """
        self._once()
        async with self.database.transaction() as connection:
            cursor = await connection.execute(self.database.sql(statements.complete_one), self._fence(result))
            if cursor.rowcount != 1:
                raise LeaseLost(self.job.id, self.job.lease)
            yield connection
        self.committed = True

    @contextmanager
    def commit_sync(self, result: Any = None) -> Iterator[psycopg.Connection[Any]]:
        """:meth:`commit` for a sync handler."""
        self._once()
        if self._sync_connection is None:
            raise QueueError("This attempt has no synchronous connections.", hint="Use: async with commit().")
        with self._sync_connection() as connection, connection.transaction():
            cursor = connection.execute(self.database.sql(statements.complete_one), self._fence(result))
            if cursor.rowcount != 1:
                raise LeaseLost(self.job.id, self.job.lease)
            yield connection
        self.committed = True

    async def enqueue(self, *jobs: NewJob, connection: Connection) -> list[int]:
        """Add follow-up jobs in the block of :meth:`commit`; they exist if and only if it commits."""
        return await enqueue_many(connection, jobs, schema=self.database.namespace.schema)

    async def report_progress(self, **progress: Any) -> None:
        """Show where a long job stands, as JSON in its row; nothing if the lease was lost."""
        async with self.database.connection() as connection:
            await connection.execute(
                self.database.sql(
                    "UPDATE docyard.procrastinate_jobs SET progress = %s "
                    "WHERE id = %s AND lease = %s AND status = 'doing'"
                ),
                [Jsonb(progress), self.job.id, self.job.lease],
            )

    def _once(self) -> None:
        if self.committed:
            raise QueueError(
                f"Job {self.job.id} was committed already in this attempt.",
                hint="Put all writes into one commit block.",
                operation="commit",
            )

    def _fence(self, result: Any) -> dict[str, Any]:
        return {"id": self.job.id, "lease": self.job.lease, "result": encode_result(result)}
