"""Line 8: a worker's clock is an hour wrong."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, query, state

from docyard_queue import Inspection, NewJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = pytest.mark.fault(8)

ROOT = Path(__file__).parents[2]
# It looks whether a schedule's payload can be encoded, with any moment in it.
HARMLESS = {("schedules.py", "datetime.now")}


@pytest.mark.slow
async def test_two_workers_two_hours_apart_leave_each_other_and_the_future_alone(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    [later] = await add(database, NewJob("effect", run_at=datetime.now(UTC) + timedelta(minutes=30)))
    apart = [
        start(url, scope=f"machine {hours}", clock_wrong_by=3600 * hours, heartbeat_seconds=0.5)
        for hours in (-1, 1)
    ]
    await eventually(lambda: all("worker.started" in worker.log for worker in apart), seconds=30)
    ids = await add(database, *[NewJob("effect", {"seconds": 2})] * 8, NewJob("fails"))
    await eventually(lambda: all_completed(database, ids), seconds=20)
    assert await effects() == ids[:-1]
    assert await state(database, later) == "scheduled"
    assert [worker.state for worker in await Inspection(database).workers()] == ["running", "running"]
    assert await query(database, "SELECT 1 FROM docyard.job_attempts WHERE outcome = 'crashed'") == []
    assert [worker.stop() for worker in apart] == [0, 0]


async def all_completed(database: Database, ids: list[int]) -> bool:
    return {await state(database, job_id) for job_id in ids} == {"completed"}


def test_nothing_between_claim_and_finish_reads_the_machines_calendar() -> None:
    found = set()
    for folder in ("queue/docyard_queue", "workers/docyard_workers/process"):
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"
                ):  # fmt: skip
                    found.add((path.name, ast.unparse(node.func)))
    assert found <= HARMLESS
