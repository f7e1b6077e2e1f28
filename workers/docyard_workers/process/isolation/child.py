"""The child's side: one attempt of one job, with connections of its own and the worker's lease."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from docyard_queue.attempt import Attempt
from docyard_queue.errors import LeaseLost
from docyard_queue.finish import begin_alone, begin_together
from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_schema import connection
from docyard_schema.database import Database
from docyard_schema.namespace import Namespace
from docyard_schema.pool import make_pool
from docyard_schema.settings import DatabaseSettings
from docyard_workers.process.execution import execute
from docyard_workers.process.isolation import messages
from docyard_workers.process.isolation.group_child import run_group
from docyard_workers.process.isolation.reference import found
from docyard_workers.process.sync_connections import SyncConnections
from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome
    from docyard_queue.registry import HandlerSpec

# What putting away may take after the outcome was told.
_LAST_SECONDS = 5


def live(channel: socket.socket) -> None:
    """Run the attempt that the worker sends, tell it the outcome, and end."""
    faulthandler.enable()
    # What a handler prints before it crashes should be seen.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(_live(channel))
    sys.stdout.flush()
    os._exit(0)


async def _live(channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    request = await messages.receive(reader)
    if request is None:
        os._exit(1)
    _limit_memory(request["memory_limit"])
    connection.adopt_session_name(request["session_name"])
    jobs = [messages.read_job(job) for job in request.get("jobs") or [request["job"]]]
    database = await _database(request["database"])
    connections = SyncConnections(database, 2)
    attempts = [Attempt(job, database, connections.connection) for job in jobs]
    hearing = asyncio.create_task(_end_with(reader))
    try:
        lost = await _begin(database, jobs)
    except DATABASE_ERRORS as error:
        await messages.send(writer, {"says": "not now", "reason": brief(error)})
        return
    if "jobs" not in request and lost:
        await messages.send(writer, {"says": "lost"})
        return
    async with contextlib.AsyncExitStack() as stack:
        try:
            spec = await stack.enter_async_context(found(request["reference"], database))
        except Exception as error:  # noqa: BLE001 - whatever the application's modules raise
            await messages.send(writer, {"says": "unready", "reason": f"{type(error).__name__}: {error}"})
            return
        hearing.cancel()
        await messages.send(writer, {"says": "begun"})
        if "jobs" in request:
            await run_group(reader, writer, spec, attempts, lost)
        else:
            [attempt] = attempts
            told = await _attempt(reader, spec, attempt)
            await messages.send(writer, told | {"committed": attempt.committed})
        signal.alarm(_LAST_SECONDS)
    connections.close()
    await database.close()


async def _begin(database: Database, jobs: Sequence[Job]) -> set[tuple[int, int]]:
    """Write down that jobs which must run alone begin; id and lease of those that are another's by now."""
    if len(jobs) > 1:
        return {(job.id, job.lease) for job in jobs} - await begin_together(database, jobs)
    [job] = jobs
    return set() if not job.alone or await begin_alone(database, job) else {(job.id, job.lease)}


async def _attempt(reader: asyncio.StreamReader, spec: HandlerSpec, attempt: Attempt) -> dict[str, Any]:
    running = asyncio.create_task(_run(spec, attempt))

    async def hear() -> None:
        while (order := await messages.receive(reader)) is not None:
            attempt.cancel_requested = order["cancel_requested"]
            running.cancel()
        os._exit(1)  # The worker is gone.

    hearing = asyncio.create_task(hear())
    try:
        outcome = await running
    except asyncio.CancelledError:
        return {"says": "cancelled"}
    finally:
        hearing.cancel()
    return {"says": "lost"} if outcome is None else messages.write_outcome(outcome)


async def _run(spec: HandlerSpec, attempt: Attempt) -> Outcome | None:
    try:
        return await execute(spec, attempt, Threads(lambda: None), timed=False)
    except LeaseLost:
        return None


async def _end_with(reader: asyncio.StreamReader) -> None:
    # Nothing is said before the handler has begun, but the end.
    if await reader.read(1) == b"":
        os._exit(1)


async def _database(given: dict[str, Any]) -> Database:
    settings = DatabaseSettings(**given["settings"])
    pool = make_pool(connection.connection_arguments(given["url"], settings), settings)
    await pool.open()
    namespace = Namespace(given["schema"], given["vectors"])
    return Database(pool, namespace, settings, url=given["url"])


def _limit_memory(limit: int | None) -> None:
    if limit is not None:
        # Private memory: an address space is far larger than what a process takes.
        kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        with contextlib.suppress(ValueError, OSError):  # macOS knows limits that it does not keep
            resource.setrlimit(kind, (limit, limit))
