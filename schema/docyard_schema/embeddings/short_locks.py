"""Strong locks, asked for in short tries: nobody passes one that waits, so none may wait for long."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import psycopg

from docyard_schema.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docyard_schema.database import Connection, Database

Found = TypeVar("Found")

_TRIES_UNTIL_A_LONG_ONE = 5


async def in_short_tries(
    database: Database,
    work: Callable[[Connection], Awaitable[Found]],
    *,
    what: str,
    operation: str,
    connection: Connection | None = None,
) -> Found:
    """What ``work`` returns, run in a transaction (a savepoint in ``connection``'s) again and again until it
    has its locks.

    Raises :class:`Conflict` saying that ``what`` got no lock within ``migration_timeout_seconds``.
    """
    timeout_seconds = database.settings.migration_timeout_seconds
    deadline = time.monotonic() + timeout_seconds
    for tries in count(1):
        try:
            async with database.transaction(connection) as opened:
                # Less than the server's deadlock_timeout (1 s), so that it is never a writer that gives way.
                # But an autovacuum gives way only to who waits longer than that, and may take many minutes.
                patience = "1200ms" if tries % _TRIES_UNTIL_A_LONG_ONE == 0 else "500ms"
                await opened.execute(f"SET LOCAL lock_timeout = '{patience}'".encode())
                found = await work(opened)
                if connection is not None:
                    await opened.execute("SET LOCAL lock_timeout TO DEFAULT")
                return found
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"{what} got no lock within {timeout_seconds:g} s.",
                    hint="Long transactions use the embeddings (SELECT pid, query, xact_start FROM "
                    "pg_stat_activity ORDER BY xact_start); try again when they have ended.",
                    operation=operation,
                ) from error
            await asyncio.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - jitter, not a secret
    raise AssertionError("tries without end")
