"""Line 17: a stop that lasts longer than a lease."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, query, row, state

from docyard_queue import Inspection, NewJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault(17)]


async def test_the_heartbeat_of_a_stopping_worker_keeps_its_job_to_the_end(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    stopping = start(url, scope="machine a", heartbeat_seconds=0.3)
    [job_id] = await add(database, NewJob("effect", {"seconds": 3}))
    await eventually(lambda: is_(database, job_id, "running"), seconds=30)
    neighbour = start(url, scope="machine b", heartbeat_seconds=0.2)
    await eventually(lambda: "worker.started" in neighbour.log, seconds=30)
    stopping.signal(signal.SIGTERM)
    await eventually(lambda: is_shown_as_stopping(database))
    # Ten heartbeats later.
    await eventually(stopping.ended)
    assert stopping.process.returncode == 0
    stored = await row(database, job_id)
    assert (stored["status"], stored["lease"], stored["attempts"]) == ("succeeded", 1, 1)
    assert await effects() == [job_id]
    assert await query(database, "SELECT 1 FROM docyard.job_attempts") == []
    assert neighbour.stop() == 0


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted


async def is_shown_as_stopping(database: Database) -> bool:
    return "stopping" in {worker.state for worker in await Inspection(database).workers()}
