"""One migrator at a time in a schema."""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg

from docyard_schema.answers import answering_within
from docyard_schema.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema.namespace import Namespace


@asynccontextmanager
async def one_migrator(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, timeout_seconds: float
) -> AsyncIterator[None]:
    """Hold the advisory lock of this schema's migrations; others wait for it.

    Raises :class:`MigrationError` when another holds it longer than ``timeout_seconds``. The session's own
    limits are put aside inside, for a role may have defaults far shorter than a step's wait.
    """
    with answering_within(connection, None):
        async with _locked(connection, namespace, timeout_seconds):
            yield


@asynccontextmanager
async def _locked(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, timeout_seconds: float
) -> AsyncIterator[None]:
    key = zlib.crc32(f"docyard migrations of {namespace.schema}".encode())
    await _prepare(connection, timeout_seconds)
    try:
        await connection.execute("SELECT pg_advisory_lock(%s)", [key])
    except psycopg.errors.LockNotAvailable as error:
        await _restore(connection)
        raise MigrationError(
            f"Another process has been migrating this database for {timeout_seconds:g} s.",
            hint="Wait for it, or find it in pg_locks (JOIN pg_stat_activity USING (pid)) by "
            f"locktype = 'advisory' AND objid = {key}.",
            operation="migrate",
        ) from error
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", [key])
            await _restore(connection)


async def _prepare(connection: psycopg.AsyncConnection[Any], timeout_seconds: float) -> None:
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("SET idle_in_transaction_session_timeout = 0")
    await connection.execute(f"SET lock_timeout = {max(1, round(timeout_seconds * 1000))}".encode())
    # A migrator that was killed holds its locks until the server looks; not every platform can look.
    with suppress(psycopg.errors.InvalidParameterValue):
        await connection.execute("SET client_connection_check_interval = 2000")


async def _restore(connection: psycopg.AsyncConnection[Any]) -> None:
    for name in (
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "client_connection_check_interval",
    ):
        await connection.execute(f"RESET {name}".encode())
