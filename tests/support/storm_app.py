"""A worker for storms, run as a program: handlers whose effects can be counted afterwards::

    python storm_app.py URL '{"concurrency": 4}'

Every ``charge`` leaves one row in ``public.charges`` and one ``receipt`` job, which leaves one in
``public.receipts``. One attempt in ten fails by itself, before or inside its transaction. A schedule ticks
every second into ``public.ticks``, for whoever counts moments.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from datetime import timedelta
from typing import Any

from support import worker_app

from docyard_queue import Backoff, NewJob, Registry, enqueue

registry = Registry()

TABLES = """
    CREATE TABLE public.charges (job_id bigint, colour text);
    CREATE TABLE public.receipts (charge bigint, job_id bigint);
    CREATE TABLE public.ticks (fire_time text, job_id bigint);
"""

# Crashes count as attempts, and a storm has many of them.
MANY = 1000
_SOON = Backoff(base=timedelta(milliseconds=50), cap=timedelta(milliseconds=200))
_CHARGE = "INSERT INTO public.charges VALUES (%s, %s)"


def _mishap() -> None:
    if random.random() < 0.1:
        raise ConnectionResetError("it goes wrong now and then")


def _seconds() -> float:
    return random.uniform(0, 0.12)


@registry.handler("charge", max_attempts=MANY, backoff=_SOON)
async def charge(attempt: Any, payload: dict[str, Any]) -> None:
    await asyncio.sleep(_seconds())
    _mishap()
    async with attempt.commit() as connection:
        await connection.execute(_CHARGE, [attempt.job.id, "async"])
        await attempt.enqueue(_receipt(attempt.job.id), connection=connection)
        await asyncio.sleep(_seconds())
        _mishap()


@registry.handler("charge in a thread", max_attempts=MANY, backoff=_SOON)
def charge_in_a_thread(attempt: Any, payload: dict[str, Any]) -> None:
    time.sleep(_seconds())
    _mishap()
    with attempt.commit_sync() as connection:
        connection.execute(_CHARGE, [attempt.job.id, "sync"])
        enqueue(connection, _receipt(attempt.job.id))
        time.sleep(_seconds())
        _mishap()


def _receipt(charge: int) -> NewJob:
    return NewJob("receipt", {"charge": charge}, max_attempts=MANY)


@registry.handler("receipt", max_attempts=MANY, backoff=_SOON)
async def receipt(attempt: Any, payload: dict[str, Any]) -> None:
    async with attempt.commit() as connection:
        await connection.execute(
            "INSERT INTO public.receipts VALUES (%s, %s)", [payload["charge"], attempt.job.id]
        )
        await asyncio.sleep(_seconds())


@registry.schedule("tick", cron="* * * * * *", missed="all")
@registry.handler("tick", max_attempts=MANY, backoff=_SOON)
async def tick(attempt: Any, payload: dict[str, Any]) -> None:
    async with attempt.commit() as connection:
        await connection.execute(
            "INSERT INTO public.ticks VALUES (%s, %s)", [payload["fire_time"], attempt.job.id]
        )


if __name__ == "__main__":
    worker_app.registry = registry
    asyncio.run(worker_app.main(sys.argv[1], **json.loads(sys.argv[2])))
