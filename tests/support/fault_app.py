"""A worker, run as a program, whose handlers harm their process, and whose clock may be wrong::

python fault_app.py URL '{"heartbeat_seconds": 0.2, "clock_wrong_by": 3600}'
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from support import worker_app

from docyard_queue import Backoff, Registry

registry = Registry()


@registry.handler("exits", max_attempts=2)
async def exits(attempt: Any, payload: dict[str, Any]) -> None:
    os._exit(9)


@registry.handler("segfaults", max_attempts=2)
def segfaults(attempt: Any, payload: dict[str, Any]) -> None:
    ctypes.string_at(0)


@registry.handler("is killed for its memory", max_attempts=2)
async def is_killed(attempt: Any, payload: dict[str, Any]) -> None:
    """What the kernel's out-of-memory killer does, without taking all memory first."""
    os.kill(os.getpid(), signal.SIGKILL)


@registry.handler("holds the GIL", max_attempts=5)
def holds_the_gil(attempt: Any, payload: dict[str, Any]) -> None:
    """Keeps every thread from running, the heartbeat's too; in its first attempt only."""
    if attempt.number == 1:
        ctypes.PyDLL(None).sleep(60)


@registry.handler("effect", max_attempts=20)
async def effect(attempt: Any, payload: dict[str, Any]) -> None:
    await asyncio.sleep(payload.get("seconds", 0))
    async with attempt.commit() as connection:
        await connection.execute(
            "INSERT INTO public.effects (job_id, pid) VALUES (%s, %s)", [attempt.job.id, os.getpid()]
        )


@registry.handler("fails", max_attempts=3, backoff=Backoff(base=timedelta(seconds=0.3), jitter=False))
async def fails(attempt: Any, payload: dict[str, Any]) -> None:
    if attempt.number == 1:
        raise ConnectionResetError("once")


async def main(url: str, clock_wrong_by: float = 0, **options: Any) -> None:
    right = time.time
    time.time = lambda: right() + clock_wrong_by
    await worker_app.main(url, **options)


if __name__ == "__main__":
    worker_app.registry = registry
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
