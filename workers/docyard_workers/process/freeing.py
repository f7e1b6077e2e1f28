"""Wakes other workers when a lock key or a place within a limit comes free here.

This worker looks by itself when a slot is free. But it may be stopping, be full, or not serve what waits.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job

_REST_SECONDS = 0.01
_MOST_LOCKS = 20

_log = structlog.get_logger("docyard.worker")


class Freeing:
    """Tells of what ended jobs held, many at once while a notice is on its way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._locks: set[str] = set()
        self._queues: set[str] = set()
        self._wake = asyncio.Event()

    def job_ended(self, job: Job) -> None:
        """An outcome of this job was written."""
        if job.lock_key is not None:
            self._locks.add(job.lock_key)
            self._wake.set()
        if job.limited:
            self._queues.add(job.queue)
            self._wake.set()

    async def run(self) -> None:
        """Tell at once, but at most so often and of so many, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.tell()
            await asyncio.sleep(_REST_SECONDS)

    async def tell(self) -> None:
        """Tell now. Never raises for the database's sake: then polling finds the jobs."""
        if not self._locks and not self._queues:
            return
        # Of a worker with thousands a second some are told of; where so much is done nobody is idle for long.
        locks = set(itertools.islice(self._locks, _MOST_LOCKS))
        self._locks.clear()
        queues, self._queues = self._queues, set()
        try:
            await self._engine.wake_next(locks, queues)
        except DATABASE_ERRORS as error:
            _log.warning("wake.missed", error=brief(error))
