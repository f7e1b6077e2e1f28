"""Takes jobs back from workers that died: three missed heartbeats, or a process that is plainly gone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Database

statements = load_statements("docyard_queue", "workers.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A job taken from a dead worker: it waits again, or after its last attempt is a dead letter."""

    job_id: int
    kind: str
    attempts: int
    dead: bool


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


async def rescue(database: Database, worker_id: int, *, scope: str) -> list[Rescued]:
    """Take up to 1,000 jobs from workers that are gone; returns what became of them.

    A worker of this ``scope`` whose process does not exist is gone at once; any other after three
    heartbeats of silence.
    """
    async with database.connection() as connection:
        dead: list[int] = []
        if scope:
            cursor = await connection.execute(
                database.sql(statements.neighbours), {"scope": scope, "worker": worker_id}
            )
            dead = [neighbour for neighbour, pid in await cursor.fetchall() if not _exists(pid)]
        cursor = await connection.execute(database.sql(statements.rescue), {"dead": dead})
        rescued = [
            Rescued(job_id=job_id, kind=kind, attempts=attempts, dead=is_dead)
            for job_id, kind, attempts, is_dead in await cursor.fetchall()
        ]
        await connection.execute(database.sql(statements.forget_gone), {"dead": dead})
    return rescued


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
