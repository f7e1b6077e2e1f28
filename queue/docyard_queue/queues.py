"""Pauses and resumes queues: workers leave a paused one alone, producers do not notice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from docyard_queue.jobs import MAXIMUM_QUEUE_BYTES
from docyard_queue.kept_text import MAXIMUM_MESSAGE, clean
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "queues.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue with its settings and counts.

    ``reason`` and ``paused_at`` are None unless it is paused; ``oldest_available_s`` is seconds, None if no
    job waits.
    """

    name: str
    paused: bool
    reason: str | None
    paused_at: datetime | None
    scheduled: int
    available: int
    running: int
    retryable: int
    dead: int
    completed_24h: int
    oldest_available_s: float | None


async def list_queues(database: Database) -> list[Queue]:
    """The queues that have settings, or jobs that count in ``docyard.queue_stats``; by name."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(Queue)
        await cursor.execute(database.sql(_statements.list_queues))
        return await cursor.fetchall()


async def pause(
    database: Database,
    name: str,
    *,
    reason: str | None = None,
    keep_reason: bool = False,
    connection: Connection | None = None,
) -> None:
    """From its commit on no job of the queue is claimed; those that run go on.

    A queue that is paused already gets the new ``reason``, unless it is to ``keep_reason``, the one that it
    has. Raises :class:`InvalidInput` for a name that no queue can have.
    """
    values = {
        "name": require_queue_name(name),
        "reason": clean(reason, MAXIMUM_MESSAGE) if reason else None,
        "keep_reason": keep_reason,
    }
    async with database.connection(connection) as opened:
        await opened.execute(database.sql(_statements.pause), values)


async def resume(database: Database, name: str, *, connection: Connection | None = None) -> bool:
    """Let workers claim the queue's jobs again and wake them; False if it was not paused."""
    values = {"name": require_queue_name(name)}
    async with database.transaction(connection) as opened:
        cursor = await opened.execute(database.sql(_statements.resume), values)
        if await cursor.fetchone() is None:
            return False
        await wake(database, opened, name)
    return True


async def wake(database: Database, connection: Connection, name: str) -> None:
    """Tell workers, when this transaction commits, that jobs of the queue wait, if any do."""
    await connection.execute(database.sql(_statements.wake_next), {"locks": [], "queues": [name]})


async def wake_next(database: Database, locks: Collection[str], queues: Collection[str]) -> None:
    """Tell workers of the jobs that waited for these lock keys, or for a place in these queues."""
    values = {"locks": list(locks), "queues": list(queues)}
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.wake_next), values)


def require_queue_name(name: str) -> str:
    """The name itself; raises :class:`InvalidInput` for one that no queue can have."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MAXIMUM_QUEUE_BYTES or "\x00" in name:
        raise InvalidInput(
            f"A queue's name has 1 to {MAXIMUM_QUEUE_BYTES} bytes, without NUL, got {name!r}.",
            hint="List queues with: docyard queues list",
        )
    return name
