"""Line 3: jobs that harm the process that runs them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, row, state, states

from docyard_queue import NewJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault(3)]


async def test_what_kills_its_process_becomes_a_dead_letter_and_its_neighbours_complete(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    poison = ("exits", "segfaults", "is killed for its memory")
    killers = await add(database, *[NewJob(kind, priority=9) for kind in poison])
    harmless = await add(database, *[NewJob("effect", {"seconds": 0.05})] * 3)
    current = start(url)

    async def all_settled() -> bool:
        nonlocal current
        if current.ended():
            current = start(url)
        return not {"running", "available", "retryable"} & set(await states(database))

    await eventually(all_settled, seconds=60)
    assert await states(database) == ["dead"] * 3 + ["completed"] * 3
    for killer in killers:
        stored = await row(database, killer)
        assert (stored["attempts"], stored["error_code"]) == (2, "crashed")
        told = [entry["outcome"] for entry in await attempts(database, killer)]
        assert told[-2:] == ["crashed", "crashed"]
    assert await effects() == harmless
    assert current.stop() == 0


async def test_a_held_gil_stops_the_heartbeat_and_counts_as_a_crash(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    held = start(url, scope="machine a", heartbeat_seconds=0.5)
    [job_id] = await add(database, NewJob("holds the GIL"))
    await eventually(lambda: is_(database, job_id, "running"), seconds=30)
    heir = start(url, scope="machine b", heartbeat_seconds=0.5)
    await eventually(lambda: is_(database, job_id, "completed"), seconds=30)
    outcomes = [entry["outcome"] for entry in await attempts(database, job_id)]
    assert outcomes[0] == "crashed"
    assert outcomes[-1] == "completed"
    assert heir.stop() == 0
    held.signal(signal.SIGKILL)


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted
