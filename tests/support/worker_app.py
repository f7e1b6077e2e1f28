"""Handlers for workers that a test stops, continues and kills. Run as a program it is such a worker::

    python worker_app.py URL '{"heartbeat_seconds": 0.2}'

Options are those of a worker; ``scope`` makes it believe that it runs on a machine of that name.
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

from pydantic import BaseModel

from docyard_queue import (
    AttemptBatch,
    Backoff,
    Cancel,
    PermanentError,
    Registry,
    Snooze,
    commit_together,
    heartbeat,
)
from docyard_schema import Database
from docyard_workers.process import Worker, WorkerOptions

registry = Registry()


class Isolated(BaseModel):
    """The payload of ``isolated_choosy``."""

    do: str


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


@registry.handler("isolated", isolated=True, max_attempts=2, backoff=Backoff(), timeout=timedelta(seconds=60))
async def isolated(attempt: Any, payload: dict[str, Any]) -> Any:
    """Does in a process of its own what the payload says."""
    return await do(attempt, payload)


@registry.handler("isolated_choosy", isolated=True, max_attempts=9, retry={ValueError: None})
async def isolated_choosy(attempt: Any, payload: Isolated) -> Any:
    return await do(attempt, {"do": payload.do})


@registry.handler("isolated_sync", isolated=True, max_attempts=2, memory_limit=400 << 20)
def isolated_sync(attempt: Any, payload: dict[str, Any]) -> Any:
    if "commit" in payload:
        with attempt.commit_sync({"committed": True}) as connection:
            connection.execute(
                "INSERT INTO public.effects (job_id, pid) VALUES (%s, %s)", [attempt.job.id, os.getpid()]
            )
    if "allocate" in payload:
        return len(bytearray(payload["allocate"]))
    if "wait_for_cancel" in payload:
        while not attempt.cancel_requested:
            time.sleep(0.01)
        return Cancel("as it was told")
    return os.getpid()


@registry.batch_handler("many", queue="many", size=64, max_attempts=2, backoff=Backoff())
async def many(batch: AttemptBatch, payloads: list[dict[str, Any]]) -> None:
    """Leaves a trace of every job in one transaction; what a payload says is done before."""
    for attempt, payload in zip(batch, payloads, strict=True):
        if "seconds" in payload:
            await asyncio.sleep(payload["seconds"])
        if payload.get("do") == "settle":
            batch.settle(attempt, ValueError("as it was told"))
        elif payload.get("do") in ("exit", "hang"):
            await do(attempt, payload)
    await leave_traces(batch)


async def leave_traces(batch: AttemptBatch) -> None:
    """Completes what is left, and says who did it with how many others."""
    left = batch.unsettled
    async with commit_together(left[0].database, {attempt: len(batch) for attempt in left}) as connection:
        for attempt in left:
            await connection.execute(
                "INSERT INTO public.effects (job_id, pid) VALUES (%s, %s)", [attempt.job.id, os.getpid()]
            )


async def do(attempt: Any, payload: dict[str, Any]) -> Any:
    """Ends, crashes or hangs as it is told."""
    match payload.get("do"):
        case "exit":
            os._exit(payload.get("code", 9))
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                pass
        case "raise":
            raise ValueError("what it raised")
        case "raise permanent":
            raise PermanentError("never again")
        case "snooze":
            return Snooze(timedelta(hours=1), "not yet")
        case "sleep":
            await attempt.report_progress(begun=True)
            await asyncio.sleep(payload["seconds"])
        case "cancelled":
            return Cancel("not wanted")
    if "commit" in payload:
        async with attempt.commit({"pid": os.getpid()}) as connection:
            await connection.execute(
                "INSERT INTO public.effects (job_id, pid) VALUES (%s, %s)", [attempt.job.id, os.getpid()]
            )
            await asyncio.sleep(payload.get("inside", 0))
        if payload["commit"] == "and exit":
            os._exit(9)
    return {"pid": os.getpid(), "parent": os.getppid()}


def a_registry(database: Database, *, answer: str) -> Registry:
    """What a recipe names: handlers that are closures over its arguments."""
    made = Registry()

    @made.handler("closure", isolated=True)
    async def closure(attempt: Any, payload: Any) -> str:
        return f"{answer} from {database.namespace.schema}"

    return made


# No child can import it.
registry.handler("nameless_die", max_attempts=2)(lambda attempt, payload: os._exit(9))


@registry.handler("hold_gil", max_attempts=2, backoff=Backoff())
async def hold_gil(attempt: Any, payload: dict[str, Any]) -> None:
    """Keeps the whole interpreter from running: a C function that does not let go of its lock."""
    ctypes.PyDLL(None).sleep(payload["seconds"])


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
