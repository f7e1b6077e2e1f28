"""Workers as real processes, and the table that they write to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import fault_app
from support.app_process import AppProcess
from support.queueing import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docyard_schema import Database


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AppProcess]]:
    """Starts workers of :mod:`support.fault_app`, or of another; what still runs at the end is killed."""
    started: list[AppProcess] = []

    def start(url: str, *, app: Any = fault_app, **options: Any) -> AppProcess:
        given = {"heartbeat_seconds": 0.2, "concurrency": 5, "shutdown_seconds": 20} | options
        started.append(AppProcess(app, url, tmp_path / f"worker {len(started)}.log", given))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
async def effects(database: Database) -> Callable[[], Any]:
    """The table that the handlers ``effect`` write to; the jobs that it holds."""
    await query(database, "CREATE TABLE public.effects (job_id bigint, pid int)")

    async def read() -> list[int]:
        rows = await query(database, "SELECT job_id FROM public.effects ORDER BY job_id")
        return [found["job_id"] for found in rows]

    return read
