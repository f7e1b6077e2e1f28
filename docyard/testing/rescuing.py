"""Takes jobs from workers that are gone, without waiting for their heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard.testing.inline_worker import InlineWorker
from docyard_queue.rescue import process_scope

if TYPE_CHECKING:
    from docyard_queue.rescue import Rescued
    from docyard_schema import Database


async def rescue_now(database: Database) -> list[Rescued]:
    """Take the jobs of workers that crashed in this test, or whose process is gone; returns them.

    The first crash of a job lets it run again at once, a later one after its wait, the last one not at all.
    """
    async with InlineWorker(database) as worker:
        return await worker.engine.rescue(worker.id, scope=process_scope(), silent=True)
