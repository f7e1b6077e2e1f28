"""Workers as real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support import worker_app
from support.queueing import query

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docyard_schema import Database


class Process:
    """A worker of :mod:`support.worker_app`."""

    def __init__(self, url: str, log: Path, options: dict[str, Any]) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(worker_app.__file__), url, json.dumps(options)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts workers; what still runs at the end of the test is killed."""
    started: list[Process] = []

    def start(url: str, **options: Any) -> Process:
        given = {"heartbeat_seconds": 0.2, "concurrency": 5, "shutdown_seconds": 20} | options
        started.append(Process(url, tmp_path / f"worker {len(started)}.log", given))
        return started[-1]

    yield start
    for process in started:
        if not process.ended():
            process.kill()


@pytest.fixture
async def effects(database: Database) -> Callable[[], Any]:
    """The table that the handler ``effect`` writes to; what it holds."""
    await query(database, "CREATE TABLE public.effects (job_id bigint, pid int)")

    async def read() -> list[tuple[int, int]]:
        rows = await query(database, "SELECT * FROM public.effects ORDER BY job_id")
        return [(found["job_id"], found["pid"]) for found in rows]

    return read
