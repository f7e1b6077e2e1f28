"""Ends tasks for good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_AGAIN_SECONDS = 0.5


async def end_tasks(tasks: Collection[asyncio.Task[None]], *, seconds: float) -> None:
    """Cancel tasks until they have ended, at most for so long; what they raise is of no interest any more.

    Once is not enough: a cancel is lost when it meets a task in the moment in which psycopg's pool hands it
    a connection.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        remaining = deadline - loop.time()
        if remaining <= 0:
            break
        await asyncio.wait(left, timeout=min(_AGAIN_SECONDS, remaining))
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
