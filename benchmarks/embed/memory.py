"""The most memory that a worker had in use while it gave very many chunks their vectors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from docyard_queue.queues import resume
from docyard_schema import Database

_LEFT = "SELECT count(*) FROM docyard.jobs WHERE queue = 'embed' AND state <> 'completed'"


async def peak_memory(url: str, settings: dict[str, str]) -> float:
    """Run ``docyard worker`` on the waiting ``embed`` jobs; the megabytes it had resident at most.

    It has no parser processes: nothing is parsed. Raises ``RuntimeError`` when the worker ends early.
    """
    async with await Database.connect(url) as database:
        await resume(database, "embed")
        with subprocess.Popen(
            [sys.executable, "-m", "docyard", "worker", "--queue", "embed"],
            env=os.environ | {"DOCYARD_DATABASE_URL": url} | settings,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as worker:
            try:
                peak = 0.0
                while await _left(database):
                    if worker.poll() is not None:
                        raise RuntimeError(f"expected the worker to go on, it ended with {worker.returncode}")
                    peak = max(peak, _resident(worker.pid))
                    await asyncio.sleep(0.5)
                return max(peak, _resident(worker.pid))
            finally:
                worker.terminate()


def _resident(pid: int) -> float:
    """The high-water mark of a process in megabytes, as Linux keeps it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _left(database: Database) -> int:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_LEFT))
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
