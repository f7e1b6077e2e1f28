"""Applies schema steps and takes them back: one at a time, under one lock, never half."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from docyard_schema.errors import MigrationError
from docyard_schema.migrations import ledger
from docyard_schema.migrations.ledger import ensure_ledger, migration_status, right_to_migrate
from docyard_schema.migrations.loss import refuse_loss
from docyard_schema.migrations.migration_lock import one_migrator
from docyard_schema.migrations.steps_on_disk import Step, load_steps

if TYPE_CHECKING:
    from docyard_schema.namespace import Namespace

# Less than the server's deadlock_timeout (1 s): where a step and an application wait for each other, it is
# the step that gives way, and not the application that is shot.
LOCK_TRY = "900ms"


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
    once: one works, the others wait and find nothing left to do. ``connection`` is in autocommit and
    talks to the server itself, not to a transaction pooler.
    """
    _check_target(to)
    async with one_migrator(connection, namespace, timeout_seconds):
        await ensure_ledger(connection, namespace)
        status = await migration_status(connection, namespace)
        chosen = [step for step in status.pending if to is None or step.number <= to]
        for step in chosen:
            await _apply(connection, namespace, step, timeout_seconds, back=False)
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
    async with one_migrator(connection, namespace, timeout_seconds):
        status = await migration_status(connection, namespace)
        chosen = [step for step in reversed(status.applied) if step.number > to]
        if not destroy:
            await refuse_loss(connection, namespace, chosen)
        for step in chosen:
            await _apply(connection, namespace, step, timeout_seconds, back=True, destroy=destroy)
        return chosen


async def _apply(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    step: Step,
    timeout_seconds: float,
    *,
    back: bool,
    destroy: bool = False,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TRY}'".encode())
                await connection.execute(
                    sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(namespace.schema))
                )
                if back and not destroy:
                    await refuse_loss(connection, namespace, [step], locked=True)
                await connection.execute(namespace.sql(step.down if back else step.up))
                await connection.execute((ledger.erase if back else ledger.record)(namespace, step))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise _no_lock(step, timeout_seconds) from error
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, not a secret
        except psycopg.Error as error:
            raise _failed(error, connection, namespace, step, back=back) from error
        else:
            return


def _no_lock(step: Step, timeout_seconds: float) -> MigrationError:
    return MigrationError(
        f"Schema step {step.filename} got no lock within {timeout_seconds:g} s; it left all as it was.",
        hint="Look for long transactions (SELECT pid, query, xact_start FROM pg_stat_activity "
        "ORDER BY xact_start), or raise DOCYARD_MIGRATION_TIMEOUT_SECONDS.",
        operation="migrate",
    )


def _failed(
    error: psycopg.Error,
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    step: Step,
    *,
    back: bool,
) -> MigrationError:
    hint = "Nothing of the step remains. Mend the cause, then run again: docyard db migrate"
    if connection.closed:
        hint = "The connection was lost; the server takes the step back. Then run again: docyard db migrate"
    elif isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = right_to_migrate(connection, namespace)
    elif isinstance(error, psycopg.errors.DependentObjectsStillExist) and error.diag.message_detail:
        hint = f"Something of your own stands on it: {error.diag.message_detail}"
    filename = step.filename.replace(".up.", ".down.") if back else step.filename
    said = error.diag.message_primary or str(error).strip()
    return MigrationError(
        f"Schema step {filename} failed and was rolled back: {said}",
        hint=hint,
        operation="migrate",
        reason=said,
    )


def _check_target(to: int | None) -> None:
    last = len(load_steps())
    if to is not None and not 0 <= to <= last:
        raise MigrationError(f"There is no schema step {to}: expected 0 to {last}.", operation="migrate")
