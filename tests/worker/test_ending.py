"""A cancel may be lost; a task is ended all the same, or given up in time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from docyard_workers.process.ending import end_tasks


async def swallowing(cancels: int) -> None:
    """As psycopg's pool does when a connection comes in the same moment."""
    for _ in range(cancels):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
    await asyncio.sleep(60)


async def failing() -> None:
    raise ValueError


async def test_a_task_that_lost_its_first_cancel_is_cancelled_again() -> None:
    tasks = [asyncio.create_task(swallowing(n)) for n in (0, 1)] + [asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks(tasks, seconds=10), 5)
    assert [task.done() for task in tasks] == [True, True, True]


async def test_a_task_that_never_ends_is_given_up() -> None:
    task = asyncio.create_task(swallowing(3))
    await asyncio.sleep(0)
    before = time.monotonic()
    await end_tasks([task], seconds=0.2)
    assert time.monotonic() - before < 2
    assert not task.done()
    await end_tasks([task], seconds=10)


async def test_nothing_to_end_is_no_wait() -> None:
    await asyncio.wait_for(end_tasks([], seconds=10), 1)
