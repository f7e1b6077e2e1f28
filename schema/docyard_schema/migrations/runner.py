"""Applies schema steps and takes them back: one at a time, under one lock, never half."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from docyard_schema.errors import MigrationError, SchemaMismatch
from docyard_schema.migrations.steps_on_disk import Step, load_steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from docyard_schema.namespace import Namespace

_LEDGER = """
CREATE TABLE IF NOT EXISTS docyard.schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """What a database has and what this code would still apply."""

    applied: tuple[Step, ...]
    pending: tuple[Step, ...]

    @property
    def version(self) -> int:
        """The number of the last applied step; 0 for an empty database."""
        return self.applied[-1].number if self.applied else 0


async def migration_status(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace
) -> MigrationStatus:
    """Compare the ledger in the database with the steps of this code.

    Raises :class:`MigrationError` naming the file when an applied step was edited since, and
    :class:`SchemaMismatch` when the database has steps that this code does not know.
    """
    steps = load_steps()
    recorded = await _read_ledger(connection, namespace)
    for number, (name, checksum) in sorted(recorded.items()):
        if number > len(steps):
            raise SchemaMismatch(
                f"The database has schema step {number:04}_{name}; this docyard knows {len(steps)} steps.",
                hint="Upgrade docyard here, or take the newer steps back with the newer version: "
                f"docyard db rollback --to {len(steps)}",
                operation="migrate",
            )
        step = steps[number - 1]
        if (step.name, step.checksum) != (name, checksum):
            raise MigrationError(
                f"Schema step {step.filename} was edited after it was applied: its sha256 is "
                f"{step.checksum[:12]}…, the database recorded {checksum[:12]}… ({name}).",
                hint="Restore the file as it was, and write the change as a new step.",
                operation="migrate",
            )
    return MigrationStatus(
        applied=tuple(step for step in steps if step.number in recorded),
        pending=tuple(step for step in steps if step.number not in recorded),
    )


async def check_version(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> None:
    """Raise :class:`SchemaMismatch` unless the database has exactly the steps of this code."""
    status = await migration_status(connection, namespace)
    if status.pending:
        state = (
            f"is at step {status.version} of {len(load_steps())}" if status.applied else "is not there yet"
        )
        raise SchemaMismatch(
            f'The schema "{namespace.schema}" in database "{connection.info.dbname}" {state}.',
            hint="Run: docyard db migrate   (or set DOCYARD_AUTO_MIGRATE=1)",
            operation="check schema",
        )


async def migrate(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    *,
    to: int | None = None,
    timeout_seconds: float = 30,
) -> list[Step]:
    """Apply what is pending, up to step ``to``; returns the steps applied, none when all were there.

    Each step is a transaction of its own, with its line in the ledger. Locks are asked for in tries of
    one second, so that a waiting step never makes readers queue behind it for long; after
    ``timeout_seconds`` it gives up and leaves everything as it was. Several processes may call this at
    once: one works, the others wait and find nothing left to do.
    """
    _check_target(to)
    async with _one_migrator(connection, namespace, timeout_seconds):
        await _create_ledger(connection, namespace)
        status = await migration_status(connection, namespace)
        chosen = [step for step in status.pending if to is None or step.number <= to]
        for step in chosen:
            record = sql.SQL("INSERT INTO {} (number, name, sha256) VALUES ({}, {}, {})").format(
                sql.Identifier(namespace.schema, "schema_migrations"), step.number, step.name, step.checksum
            )
            await _apply(connection, namespace, step, step.up, record, timeout_seconds)
        return chosen


async def rollback(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    *,
    to: int,
    destroy: bool = False,
    timeout_seconds: float = 30,
) -> list[Step]:
    """Take back every step above ``to``, the last one first; returns them.

    A step of the base holds what cannot be computed again: it is refused with :class:`MigrationError`
    while one of its tables has rows, unless ``destroy`` is given. Nothing is taken back then.
    """
    _check_target(to)
    async with _one_migrator(connection, namespace, timeout_seconds):
        status = await migration_status(connection, namespace)
        chosen = [step for step in reversed(status.applied) if step.number > to]
        if not destroy and any(step.is_base for step in chosen):
            await _refuse_loss(connection, namespace, to)
        for step in chosen:
            erase = sql.SQL("DELETE FROM {} WHERE number = {}").format(
                sql.Identifier(namespace.schema, "schema_migrations"), step.number
            )
            await _apply(connection, namespace, step, step.down, erase, timeout_seconds)
        return chosen


async def _apply(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    step: Step,
    statements: str,
    ledger: sql.Composed,
    timeout_seconds: float,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = 0")
                await connection.execute(
                    sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(namespace.schema))
                )
                await connection.execute(namespace.sql(statements))
                await connection.execute(ledger)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"Schema step {step.filename} got no lock within {timeout_seconds:g} s; "
                    "everything is as it was.",
                    hint="Look for long transactions (SELECT pid, query, xact_start FROM pg_stat_activity "
                    "ORDER BY xact_start), or raise DOCYARD_MIGRATION_TIMEOUT_SECONDS.",
                    operation="migrate",
                ) from error
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, not a secret
        except psycopg.Error as error:
            raise MigrationError(
                f"Schema step {step.filename} failed and was rolled back: {error.diag.message_primary or error}",
                hint=_remedy(error, connection, namespace),
                operation="migrate",
            ) from error
        else:
            return


def _remedy(
    error: psycopg.Error, connection: psycopg.AsyncConnection[Any], namespace: Namespace
) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return (
            f'Let the database\'s owner run: GRANT CREATE ON DATABASE "{connection.info.dbname}" '
            f'TO "{connection.info.user}"; the schema "{namespace.schema}" must belong to that user.'
        )
    return "Nothing of the step remains. Mend the cause, then run again: docyard db migrate"


@asynccontextmanager
async def _one_migrator(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, timeout_seconds: float
) -> AsyncIterator[None]:
    key = zlib.crc32(f"docyard migrations of {namespace.schema}".encode())
    # Read, not inherited: a role may have a default far shorter than a step's wait.
    await connection.execute("SET statement_timeout = 0")
    await connection.execute(f"SET lock_timeout = {max(1, round(timeout_seconds * 1000))}".encode())
    try:
        await connection.execute("SELECT pg_advisory_lock(%s)", [key])
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"Another process has been migrating this database for {timeout_seconds:g} s.",
            hint="Wait for it, or find it: SELECT pid FROM pg_locks WHERE locktype = 'advisory';",
            operation="migrate",
        ) from error
    finally:
        if not connection.closed:
            await connection.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", [key])


async def _create_ledger(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> None:
    try:
        cursor = await connection.execute("SELECT to_regnamespace(%s) IS NULL", [namespace.schema])
        row = await cursor.fetchone()
        if row is not None and row[0]:
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(namespace.schema)))
        await connection.execute(namespace.sql(_LEDGER))
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f'The user "{connection.info.user}" may not create the schema "{namespace.schema}": '
            f"{error.diag.message_primary}",
            hint=_remedy(error, connection, namespace),
            operation="migrate",
        ) from error


async def _read_ledger(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace
) -> dict[int, tuple[str, str]]:
    cursor = await connection.execute("SELECT to_regclass(%s)", [f"{namespace.schema}.schema_migrations"])
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return {}
    try:
        cursor = await connection.execute(
            namespace.sql("SELECT number, name, sha256 FROM docyard.schema_migrations")
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaMismatch(
            f'The user "{connection.info.user}" may not read the schema "{namespace.schema}".',
            hint=f'Let its owner run: GRANT USAGE ON SCHEMA {namespace.schema} TO "{connection.info.user}"; '
            "and grant the tables, or connect as the owner.",
            operation="check schema",
        ) from error
    return {number: (name, checksum) for number, name, checksum in await cursor.fetchall()}


async def _refuse_loss(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, to: int
) -> None:
    cursor = await connection.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = to_regnamespace(%s) AND relname <> 'schema_migrations' ORDER BY relname",
        [namespace.schema],
    )
    full: list[str] = []
    for (table,) in await cursor.fetchall():
        name = sql.Identifier(namespace.schema, table)
        probe = await connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(name))
        row = await probe.fetchone()
        if row is not None and row[0]:
            full.append(table)
    if full:
        raise MigrationError(
            f"Rolling back to step {to} would drop tables that have rows: {', '.join(full)}.",
            hint="Nothing was changed. Export first, or say --destroy to lose them.",
            operation="rollback",
        )


def _check_target(to: int | None) -> None:
    last = len(load_steps())
    if to is not None and not 0 <= to <= last:
        raise MigrationError(f"There is no schema step {to}: expected 0 to {last}.", operation="migrate")

