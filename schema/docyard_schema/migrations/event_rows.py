"""Whether procrastinate's event rows are written: two triggers that exist only while they are wanted."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg

from docyard_schema.errors import DatabaseError, MigrationError
from docyard_schema.migrations.ledger import check_version
from docyard_schema.migrations.runner import LOCK_TRY
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.namespace import Namespace

_statements = load_statements("docyard_schema.migrations", "event_rows.sql")


async def event_rows_are_written(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> bool:
    """Whether the database writes a row into ``procrastinate_events`` for what happens to a job."""
    cursor = await connection.execute(_statements.event_triggers, {"schema": namespace.schema})
    return await cursor.fetchone() is not None


async def write_event_rows(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    *,
    wanted: bool,
    timeout_seconds: float = 30,
) -> bool:
    """Begin or end the writing of event rows, for every producer and worker at once; False when it was so.

    Rows that were written stay. The jobs' table is locked for a moment, asked for as by a schema step: in
    tries of one second, for ``timeout_seconds``. ``connection`` is in autocommit. Raises
    :class:`SchemaMismatch` unless the schema is up to date, :class:`DatabaseError` when this user is not
    its owner, and :class:`MigrationError` when there was no lock.
    """
    await check_version(connection, namespace)
    if await event_rows_are_written(connection, namespace) == wanted:
        return False
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TRY}'".encode())
                await connection.execute(namespace.sql(_statements.record_events), {"wanted": wanted})
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"The table of jobs was in use for {timeout_seconds:g} s; nothing was changed.",
                    hint="Look for long transactions (SELECT pid, query, xact_start FROM pg_stat_activity "
                    "ORDER BY xact_start), or raise DOCYARD_MIGRATION_TIMEOUT_SECONDS.",
                    operation="event rows",
                ) from error
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, not a secret
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f'The user "{connection.info.user}" may not change the tables of the schema '
                f'"{namespace.schema}": {error.diag.message_primary}',
                hint=f"As the schema's owner run: docyard db events {'on' if wanted else 'off'}",
                operation="event rows",
            ) from error
        else:
            return True
