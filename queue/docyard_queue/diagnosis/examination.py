"""Runs every check; none of them can fail the whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg

from docyard_queue.diagnosis import schema, server, tables, work
from docyard_queue.diagnosis.finding import Finding, problem, warning
from docyard_queue.diagnosis.patient import Patient
from docyard_queue.outage import brief
from docyard_schema.errors import DocyardError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docyard_schema.database import Database

TRANSACTION_SECONDS = 60.0
_LONGEST_SECONDS = 30

_CHECKS: dict[str, Callable[[Patient], Awaitable[list[Finding]]]] = {
    "connection": schema.connection,
    "versions": server.versions,
    "migrations": schema.migrations,
    "drift": schema.drift,
    "pooler": schema.pooler,
    "notifications": schema.notifications,
    "clock": server.clock,
    "transactions": server.transactions,
    "replication slots": server.replication_slots,
    "dead rows": tables.dead_rows,
    "indexes": tables.indexes,
    "notify queue": server.notify_queue,
    "connections": server.connections,
    "settings": server.settings,
    "workers": work.workers,
    "running jobs": work.orphans,
    "paused queues": work.paused_queues,
    "kinds": work.unserved,
    "waiting jobs": work.waiting,
    "dead letters": work.dead_letters,
}


async def examine(database: Database, *, transaction_seconds: float = TRANSACTION_SECONDS) -> list[Finding]:
    """What every check found, in their order; changes nothing.

    Never raises for the database's sake: what cannot be looked at is a finding too. A transaction is long
    from ``transaction_seconds`` on.
    """
    patient = Patient(database=database, transaction_seconds=transaction_seconds)
    found = []
    for name, check in _CHECKS.items():
        found += await _looked(name, check, patient)
    return found


def unreachable(error: DocyardError) -> Finding:
    """The finding of a database that cannot be had."""
    return problem("connection", error.message, error.hint)


async def _looked(
    name: str, check: Callable[[Patient], Awaitable[list[Finding]]], patient: Patient
) -> list[Finding]:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await check(patient)
    except psycopg.errors.InsufficientPrivilege as error:
        return [
            _blind(name, brief(error), "Ask again as a user who may: the schema's owner, or with pg_monitor.")
        ]
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.UndefinedFunction,
    ) as error:
        return [_blind(name, brief(error), "Bring the schema up to date first: docyard db migrate")]
    except DocyardError as error:
        return [_blind(name, error.message, error.hint)]
    except TimeoutError:
        return [
            _blind(name, f"no answer within {_LONGEST_SECONDS} s", "Ask again when the server is less busy.")
        ]
    except (psycopg.Error, OSError) as error:
        return [_blind(name, brief(error), "Ask again.")]


def _blind(name: str, reason: str, advice: str) -> Finding:
    return warning(name, f"could not look: {reason}", advice)
