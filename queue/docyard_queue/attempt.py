"""One attempt of one job, as its handler sees it."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from docyard_queue import budgets
from docyard_queue.bulk import enqueue_many
from docyard_queue.errors import LeaseLost, QueueError
from docyard_queue.finish import statements
from docyard_queue.kept_text import encode_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    import psycopg

    from docyard_queue.jobs import Job, NewJob
    from docyard_schema.database import Connection, Database


class Attempt:
    """What a handler gets beside its payload: the job, and the fenced way to write.

    ``committed`` is True once the job was completed by :meth:`commit`; ``cancel_requested`` once somebody
    asked for the job's end (an async handler is cancelled as well, a sync one may look). ``lease_lost`` is
    True once a commit has found that another worker has the job.

    In a batch also: ``ended`` is True once nothing is left to do for this attempt, however it came about.
    """

    lease_lost = False
    ended = False
    # Told when a commit has ended the attempt, for a batch handler goes on after it.
    _told: Callable[[Attempt], None] | None = None

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
        self._committing = False

    @property
    def number(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.job.attempt

    def tell(self, told: Callable[[Attempt], None]) -> None:
        """Have ``told`` called, in the thread of the commit, when a commit has ended this attempt."""
        self._told = told

    @asynccontextmanager
    async def commit(self, result: Any = None) -> AsyncIterator[Connection]:
        """A transaction in which the job is complete; what the block writes commits with it, or nothing does.

        ::

            async with attempt.commit() as connection:
                await connection.execute("INSERT INTO effects …")

        Raises :class:`LeaseLost`, before the block, when another worker has the job by now. A handler may
        do it once, as its last act: what it raises afterwards is logged and changes nothing. A block that
        raised was rolled back and may be tried again; so was one that raised ``psycopg.Rollback``.
        """
        with self.only_once():
            reached_the_end = False
            async with self.database.transaction() as connection:
                cursor = await connection.execute(self._statement(), self._fence(result))
                self._require_lease(cursor.rowcount)
                yield connection
                self.about_to_commit()
                reached_the_end = True
            # The transaction swallows psycopg.Rollback: then nothing is done.
            if reached_the_end:
                self.end_committed(result)

    @contextmanager
    def commit_sync(self, result: Any = None) -> Iterator[psycopg.Connection[Any]]:
        """:meth:`commit` for a sync handler."""
        if self._sync_connection is None:
            raise QueueError("This attempt has no synchronous connections.", hint="Use: async with commit().")
        with self.only_once():
            reached_the_end = False
            with self._sync_connection() as connection, connection.transaction():
                cursor = connection.execute(self._statement(), self._fence(result))
                self._require_lease(cursor.rowcount)
                yield connection
                self.about_to_commit()
                reached_the_end = True
            if reached_the_end:
                self.end_committed(result)

    async def enqueue(self, *jobs: NewJob, connection: Connection) -> list[int]:
        """Add follow-up jobs in the block of :meth:`commit`; they exist if and only if it commits."""
        return await enqueue_many(connection, jobs, schema=self.database.namespace.schema)

    async def report_progress(self, **progress: Any) -> None:
        """Show where a long job stands, as JSON in its row; nothing if the lease was lost."""
        values = {"id": self.job.id, "lease": self.job.lease, "progress": encode_result(progress)}
        async with self.database.connection() as connection:
            await connection.execute(self.database.sql(statements.report_progress), values)

    async def cool_down(self, delay: timedelta, *, reason: str = "", whole_queue: bool = False) -> None:
        """For so long no job of this one's partition key begins; without a key, or with ``whole_queue``, none
        of its queue. Those that run go on.
        """
        key = None if whole_queue else self.job.partition_key
        name = await budgets.limit_name(self.database, self.job.queue, key)
        await budgets.cool_down_limit(self.database, name, delay, reason)

    async def settle_weight(self, used: float) -> None:
        """Say what the job really took of its queue's rate, of which its weight was taken at the claim."""
        difference = self.job.weight - used
        keys = {None, self.job.partition_key}
        names = [await budgets.limit_name(self.database, self.job.queue, key) for key in keys]
        await budgets.give_back(self.database, [(name, "weight", difference) for name in names])

    @property
    def committing(self) -> bool:
        """Whether a commit of this attempt is under way."""
        return self._committing

    def about_to_commit(self) -> None:
        """Note that the block of a commit has written all, and its transaction commits next."""

    def end_committed(self, result: Any) -> None:
        """Note that a transaction which completed the job with this result has committed."""
        self.committed = True
        self._tell()

    def end_lost(self) -> None:
        """Note that the lease was lost."""
        self.lease_lost = True
        self._tell()

    @contextmanager
    def only_once(self) -> Iterator[None]:
        """A block that commits this attempt. Raises :class:`QueueError` when one has, or does now."""
        if self.committed or self._committing:
            raise QueueError(
                f"Job {self.job.id} was committed already in this attempt, or is being committed.",
                hint="Put all writes into one commit block.",
                operation="commit",
            )
        self._committing = True
        try:
            yield
        finally:
            self._committing = False

    def _require_lease(self, rows: int) -> None:
        if rows != 1:
            self.end_lost()
            raise LeaseLost(self.job.id, self.job.lease)

    def _tell(self) -> None:
        if self._told is not None:
            self._told(self)

    def _statement(self) -> bytes:
        return self.database.sql(statements.complete_one)

    def _fence(self, result: Any) -> dict[str, Any]:
        return {"id": self.job.id, "lease": self.job.lease, "result": encode_result(result)}
