"""Takes jobs back from workers that died: three missed heartbeats, or a process that is plainly gone."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from docyard_queue.finish import put_back
from docyard_schema.connection import session_name
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from docyard_schema.database import Connection, Database

statements = load_statements("docyard_queue", "workers.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A job taken from a dead worker: it waits again, or after its last attempt is a dead letter.

    ``innocent``: nobody knows whether it was this one, so the attempt was given back, and it runs alone next.
    """

    job_id: int
    kind: str
    attempts: int
    dead: bool
    innocent: bool


def process_scope() -> str:
    """Names the set of processes in which a pid means the same to all; empty where that is unknown.

    Boot and process namespace, and not the host's name: two containers may share a name, and then one's
    pid 57 is nobody to the other.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


async def rescue(database: Database, worker_id: int, *, scope: str, silent: bool = True) -> list[Rescued]:
    """Take up to 1,000 jobs from workers that are gone; returns what became of them.

    A worker of this ``scope`` whose process does not exist is gone at once; any other after three
    heartbeats of silence, unless ``silent`` is False: for an asker that was itself cut off a moment ago
    others' silence says nothing.
    """
    await end_abandoned(database)
    async with database.connection() as connection:
        dead: list[int] = []
        if scope:
            cursor = await connection.execute(
                database.sql(statements.neighbours), {"scope": scope, "worker": worker_id}
            )
            dead = [neighbour for neighbour, pid in await cursor.fetchall() if not _exists(pid)]
        values = {"dead": dead, "worker": worker_id, "silent": silent, "session": session_name()}
        rescued = await _rescue(database, connection, values)
        if await _end_sessions(database, connection, values):
            rescued += await _rescue(database, connection, values)
        await connection.execute(database.sql(statements.forget_gone), values)
    return rescued


async def end_abandoned(database: Database) -> None:
    """End this process's own sessions whose connections fell silent and were given up.

    The server was not told, and one of them may hold the row of a job. Unlike a lost worker's, they are
    known one by one.
    """
    if not database.abandoned:
        return
    given_up, now = [*database.abandoned], time.monotonic()
    values = {
        "pids": [pid for pid, _ in given_up],
        "seconds_ago": [now - when for _, when in given_up],
    }
    async with database.connection() as connection:
        await connection.execute(database.sql(statements.end_abandoned), values)
    # Only now: without an answer they are asked for again. Others may have come since.
    del database.abandoned[: len(given_up)]


async def cancel_requested(database: Database, worker_id: int) -> list[int]:
    """Running jobs of a worker that somebody wants cancelled."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statements.cancel_requested), {"worker": worker_id})
        return [row[0] for row in await cursor.fetchall()]


async def release_strays(
    database: Database, worker_id: int, held: Collection[tuple[int, int]], *, grace_seconds: float
) -> list[int]:
    """Give back jobs that stand under a worker's number but that it does not hold; returns their ids.

    ``held`` are the (job id, lease) of what it does hold. A claim whose answer was lost leaves such jobs,
    and nobody else would take them from a living worker. They never began: the attempt does not count.
    """
    values = {
        "worker": worker_id,
        "grace": grace_seconds,
        "ids": [job_id for job_id, _ in held],
        "leases": [lease for _, lease in held],
    }
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statements.strays), values)
        strays = await cursor.fetchall()
    message = "the answer to its claim was lost"
    return [
        job_id
        for job_id, lease in strays
        if await put_back(database, job_id, lease, outcome="released", message=message)
    ]


async def _rescue(database: Database, connection: Connection, values: dict[str, Any]) -> list[Rescued]:
    try:
        cursor = await connection.execute(database.sql(statements.rescue), values | {"give_up_keys": False})
    except psycopg.errors.UniqueViolation:
        # A sibling with the same unique key began to wait after our look.
        cursor = await connection.execute(database.sql(statements.rescue), values | {"give_up_keys": True})
    return [
        Rescued(job_id=job_id, kind=kind, attempts=attempts, dead=dead, innocent=innocent)
        for job_id, kind, attempts, dead, innocent in await cursor.fetchall()
    ]


async def _end_sessions(database: Database, connection: Connection, values: dict[str, Any]) -> int:
    """End transactions in which lost workers hold their jobs' rows; how many."""
    try:
        cursor = await connection.execute(database.sql(statements.end_sessions), values)
    except psycopg.errors.InsufficientPrivilege:
        # Sessions of another role. Their jobs wait until the connections end (keepalives see to that).
        return 0
    return len(await cursor.fetchall())


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie still has its pid; it will never finish a job.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] != "Z"
