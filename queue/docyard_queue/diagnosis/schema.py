"""Checks of docyard's schema and of the way to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from docyard_queue.diagnosis.finding import Finding, counted, ok, problem, warning
from docyard_schema.errors import MigrationError, SchemaMismatch
from docyard_schema.health import HealthStatus
from docyard_schema.identifiers import new_id
from docyard_schema.migrations import find_drift, load_steps, migration_status
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_queue.diagnosis.patient import Patient

_server = load_statements("docyard_queue.diagnosis", "server.sql")

_LISTEN_SECONDS = 3.0


async def connection(patient: Patient) -> list[Finding]:
    """Whether the database answers and can be written to."""
    health = await patient.database.health_check()
    told = f"{patient.database.describe()}, {health.milliseconds:.1f} ms"
    if health.status is HealthStatus.HEALTHY:
        return [ok("connection", told)]
    return [problem("connection", f"{told}: {health.reason}", "Connect to a server that can be written to.")]


async def pooler(patient: Patient) -> list[Finding]:
    """Whether something stands between that gives out its own process numbers."""
    told = patient.database.settings.pooler
    async with patient.database.connection() as opened:
        cursor = await opened.execute(_server.backend.encode())
        [(backend,)] = await cursor.fetchall()
        between = backend != opened.info.backend_pid
    if between and told == "none":
        return [
            warning(
                "pooler",
                "a pooler stands between, and the settings name none",
                "In transaction mode set DOCYARD_POOLER=transaction and DOCYARD_DIRECT_DATABASE_URL.",
            )
        ]
    if not between and told == "transaction":
        return [
            warning(
                "pooler",
                "the settings name a transaction pooler, and there is none",
                "Leave DOCYARD_POOLER out: prepared statements and LISTEN work.",
            )
        ]
    return [ok("pooler", "a transaction pooler, as the settings say" if between else "none")]


async def notifications(patient: Patient) -> list[Finding]:
    """Whether a worker would hear of new jobs at once: a notification to ourselves."""
    database, channel = patient.database, f"docyard_doctor_{new_id().hex[-12:]}"
    if database.settings.pooler == "transaction" and database.settings.direct_database_url is None:
        return [
            warning(
                "notifications",
                "workers cannot LISTEN through a transaction pooler: jobs wait for the next poll",
                "Set DOCYARD_DIRECT_DATABASE_URL to the same database without the pooler.",
            )
        ]
    async with database.dedicated() as listener:
        await listener.execute(f"LISTEN {channel}".encode())
        begun = time.monotonic()
        async with database.connection() as teller:
            await teller.execute(f"NOTIFY {channel}".encode())
        async for _ in listener.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
            return [ok("notifications", f"heard after {1000 * (time.monotonic() - begun):.1f} ms")]
    return [
        warning(
            "notifications",
            f"a NOTIFY was not heard within {_LISTEN_SECONDS:.0f} s: jobs wait for the next poll",
            "LISTEN needs a connection to the same server: see DOCYARD_DIRECT_DATABASE_URL.",
        )
    ]


async def migrations(patient: Patient) -> list[Finding]:
    """Whether the schema is that of this code."""
    try:
        async with patient.database.connection() as opened:
            status = await migration_status(opened, patient.database.namespace)
    except (MigrationError, SchemaMismatch) as error:
        return [problem("migrations", error.message, error.hint)]
    told = f"schema {patient.database.namespace.schema}, step {status.version} of {len(load_steps())}"
    if not status.pending:
        return [ok("migrations", told)]
    if patient.database.backend == "embedded":
        return [warning("migrations", told, "Any other command brings the embedded database up to date.")]
    return [
        problem(
            "migrations",
            f"{told}: {counted(len(status.pending), 'step')} to apply",
            "Run: docyard db migrate",
        )
    ]


async def drift(patient: Patient) -> list[Finding]:
    """Whether somebody changed the schema by hand."""
    async with patient.database.dedicated() as opened:
        status = await migration_status(opened, patient.database.namespace)
        if not status.applied:
            return [ok("drift", "there is no schema yet")]
        async with asyncio.timeout(20):
            differences = await find_drift(opened, patient.database.namespace, to=status.version)
    if not differences:
        return [ok("drift", "none")]
    first = differences[0].splitlines()[0]
    return [
        warning(
            "drift",
            f"{counted(len(differences), 'difference')} from the schema's steps, the first: {first}",
            "Look at all of them: docyard db drift",
        )
    ]
