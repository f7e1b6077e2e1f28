"""Takes up what other workers, and this one, let fall: now, and at every heartbeat."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief
from docyard_workers.process.batch_ends import close

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_queue.engine import Engine
    from docyard_queue.heartbeat import Heartbeat
    from docyard_workers.process.attempts import Attempts

_log = structlog.get_logger("docyard.worker")


class Recovery:
    """Rescues jobs of workers that are gone, gives back those that never reached this one, ends batches."""

    def __init__(
        self,
        engine: Engine,
        heartbeat: Heartbeat,
        attempts: Attempts,
        *,
        seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._heartbeat = heartbeat
        self._attempts = attempts
        self._seconds = seconds
        self._wake = wake

    async def run(self) -> None:
        """Look at every heartbeat, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            await self.look()

    async def look(self) -> None:
        """Look once. Never raises for the database's sake."""
        try:
            await self._rescue()
            await self.release_strays(grace_seconds=max(1.0, self._seconds))
        except DATABASE_ERRORS as error:
            _log.warning("rescue.failed", error=brief(error))
            return
        # Of workers that died between the end of a batch's last job and its callback.
        await close(self._engine, None)

    async def release_strays(self, *, grace_seconds: float) -> None:
        """Give back jobs that were claimed so long ago for this worker and did not reach it."""
        released = await self._engine.release_strays(
            self._heartbeat.worker_id, [*self._attempts.held], grace_seconds=grace_seconds
        )
        for job_id in released:
            _log.warning("claim.lost", job_id=job_id)
        if released:
            self._wake()

    async def _rescue(self) -> None:
        rescued = await self._engine.rescue(
            self._heartbeat.worker_id, scope=self._heartbeat.scope, silent=self._heartbeat.steady
        )
        for job in rescued:
            fields = {"job_id": job.job_id, "kind": job.kind, "attempts": job.attempts, "error": "crashed"}
            if job.innocent:
                fields["alone"] = True
            if job.dead:
                _log.error("job.died", **fields)
            else:
                _log.warning("job.rescued", **fields)
        if rescued:
            self._wake()
