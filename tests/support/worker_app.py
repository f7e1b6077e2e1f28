"""Handlers for workers that a test stops, continues and kills. Run as a program it is such a worker::

    python worker_app.py URL '{"heartbeat_seconds": 0.2}'

Options are those of a worker; ``scope`` makes it believe that it runs on a machine of that name.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from docyard_queue import Backoff, Registry, heartbeat
from docyard_schema import Database
from docyard_workers.process import Worker, WorkerOptions

registry = Registry()


@registry.handler("effect", max_attempts=5)
async def effect(attempt: Any, payload: dict[str, Any]) -> None:
    """Waits, and then leaves a trace in the transaction that completes the job."""
    await asyncio.sleep(payload.get("seconds", 0))
    async with attempt.commit() as connection:
        await connection.execute(
            "INSERT INTO public.effects (job_id, pid) VALUES (%s, %s)", [attempt.job.id, os.getpid()]
        )
        await asyncio.sleep(payload.get("inside", 0))


@registry.handler("sleep", max_attempts=5)
async def sleep(attempt: Any, payload: dict[str, Any]) -> int:
    await asyncio.sleep(payload["seconds"])
    return os.getpid()


@registry.handler("thread", max_attempts=5)
def thread(attempt: Any, payload: dict[str, Any]) -> int:
    time.sleep(payload["seconds"])
    return os.getpid()


@registry.handler("block", max_attempts=5)
async def block(attempt: Any, payload: dict[str, Any]) -> None:
    """Keeps the whole event loop from running."""
    time.sleep(payload["seconds"])


@registry.handler("die", max_attempts=2, backoff=Backoff())
async def die(attempt: Any, payload: dict[str, Any]) -> None:
    os._exit(9)


async def main(url: str, scope: str = "", **options: Any) -> None:
    if scope:
        heartbeat.process_scope = lambda: scope
    loop = asyncio.get_running_loop()
    async with (
        await Database.connect(url) as database,
        Worker(database, registry, WorkerOptions(**options)) as worker,
    ):
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
