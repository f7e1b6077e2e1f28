"""Wakes whoever serves the next job of a lock key when this worker cannot run it itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job

_log = structlog.get_logger("docyard.worker")

_GATHER_SECONDS = 0.005
# It gets a tenth of the time at most.
_REST = 10


class LockEnds:
    """Has notices sent of jobs that wait for a lock key which became free here.

    A worker that serves every queue looks itself when a slot is free, so nobody is told. One that serves
    some, or that stops, tells the others: they would find the job at their next poll only.
    """

    def __init__(self, engine: Engine, queues: Sequence[str] | None) -> None:
        self.stopping = False
        self._engine = engine
        self._queues = queues
        self._freed: set[str] = set()
        self._wake = asyncio.Event()

    def job_ended(self, job: Job) -> None:
        """An outcome of this job was written."""
        if job.lock_key is not None and (self.stopping or self._queues is not None):
            self._freed.add(job.lock_key)
            self._wake.set()

    async def run(self) -> None:
        """Look soon after a lock became free, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_GATHER_SECONDS)
            begun = time.monotonic()
            await self.look()
            await asyncio.sleep(_REST * (time.monotonic() - begun))

    async def look(self) -> None:
        """Look now, at the locks that became free since. Never raises for the database's sake."""
        if not self._freed:
            return
        freed, self._freed = self._freed, set()
        try:
            await self._engine.wake_next(freed, but_not=None if self.stopping else self._queues)
        except DATABASE_ERRORS as error:
            # Polling finds what waits.
            _log.warning("lock.missed", error=brief(error))
