"""Workers in the test's own process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docyard_queue import Backoff
from docyard_workers.process import Worker, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_queue import Registry
    from docyard_schema import Database

AT_ONCE = Backoff(base=timedelta(0))


def a_worker(database: Database, registry: Registry, *, engine: Any = None, **options: Any) -> Worker:
    return Worker(database, registry, WorkerOptions(**({"shutdown_seconds": 10} | options)), engine=engine)


async def drain(database: Database, registry: Registry, **options: Any) -> Worker:
    """Work until nothing is left; fails when that takes half a minute."""
    async with a_worker(database, registry, **options) as worker, asyncio.timeout(30):
        await worker.drain()
    return worker


@asynccontextmanager
async def running(database: Database, registry: Registry, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs until the end of the block, and then stops gracefully."""
    async with a_worker(database, registry, **options) as worker:
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, 30)
