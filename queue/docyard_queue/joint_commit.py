"""Completes attempts of one worker, of any batches, in one transaction with what their handlers write."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from docyard_queue.finish import complete_held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from docyard_queue.attempt import Attempt
    from docyard_schema.database import Connection, Database


@asynccontextmanager
async def commit_together(database: Database, results: Mapping[Attempt, Any]) -> AsyncIterator[Connection]:
    """A transaction in which these jobs are complete, each with its result, and what the block writes.

    ::

        async with commit_together(database, {attempt: {"texts": 3}, other: None}) as connection:
            await connection.execute("INSERT INTO …")

    Jobs whose lease another worker has by now are left to it, and their attempts say ``lease_lost``; the
    block runs all the same, also when no job is left or none was given. After the commit the others'
    ``attempt.committed`` is True and their weight is free, though their handlers go on.

    A block that raised was rolled back and may be tried again; so was one that raised ``psycopg.Rollback``.
    Raises :class:`QueueError` for an attempt that was committed already, or is being committed.
    """
    with ExitStack() as stack:
        for attempt in results:
            stack.enter_context(attempt.only_once())
        reached_the_end = False
        async with database.transaction() as connection:
            held = await complete_held(
                database, connection, [(attempt.job, result) for attempt, result in results.items()]
            )
            yield connection
            for attempt in results:
                attempt.about_to_commit()
            reached_the_end = True
        if not reached_the_end:
            return
        for attempt, result in results.items():
            if (attempt.job.id, attempt.job.lease) in held:
                attempt.end_committed(result)
            else:
                attempt.end_lost()
