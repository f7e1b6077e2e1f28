"""Looks whether a batch has ended when one of its jobs has, a few times a second and not at every job."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_queue.engine import Engine
    from docyard_queue.jobs import Job

_log = structlog.get_logger("docyard.worker")

_GATHER_SECONDS = 0.05
# A look takes a while when Postgres cannot clean up behind the jobs; it gets a tenth of the time at most.
_REST = 10


class BatchEnds:
    """Has the callbacks of batches enqueued whose last job ended here.

    What is missed (a crash between the finish and the look) is found by recovery's sweep.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._touched: set[UUID] = set()
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()

    def job_ended(self, job: Job) -> None:
        """An outcome of this job was written."""
        if job.batch_id is not None:
            self._touched.add(job.batch_id)
            self._wake.set()

    async def run(self) -> None:
        """Look soon after a job has ended, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_GATHER_SECONDS)
            begun = time.monotonic()
            await self.look()
            await asyncio.sleep(_REST * (time.monotonic() - begun))

    async def look(self) -> None:
        """Look now, at the batches whose jobs ended since. Never raises for the database's sake.

        A look that is on its way is waited for: after it all callbacks that were due are enqueued.
        """
        async with self._looking:
            if not self._touched:
                return
            touched, self._touched = self._touched, set()
            await close(self._engine, touched)


async def close(engine: Engine, batch_ids: set[UUID] | None) -> None:
    """Have the callbacks of ended batches enqueued, and tell of them."""
    try:
        closed = await engine.close_batches(batch_ids)
    except DATABASE_ERRORS as error:
        _log.warning("batch.missed", error=brief(error))
        return
    for batch_id, job_id in closed:
        _log.info("batch.ended", batch_id=str(batch_id), job_id=job_id)
