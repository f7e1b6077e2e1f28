"""Wakes other workers when a lock key or a place within a limit comes free here.

This worker looks by itself when a slot is free. But it may be stopping, be full, or not serve what waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job

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
        """Tell at once, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.tell()

    async def tell(self) -> None:
        """Tell now. Never raises for the database's sake: then polling finds the jobs."""
        if not self._locks and not self._queues:
            return
        locks, self._locks = self._locks, set()
        queues, self._queues = self._queues, set()
        try:
            await self._engine.wake_next(locks, queues)
        except DATABASE_ERRORS as error:
            _log.warning("wake.missed", error=brief(error))
