"""Enqueues what a registry's schedules want, when the database's clock says so."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue.engine import Engine
    from docyard_queue.schedules import Schedule

_log = structlog.get_logger("docyard.worker")

# The database's clock may be set, and a laptop may sleep: nobody trusts a longer sleep than this.
_LONGEST_SLEEP_SECONDS = 15.0
# Rather a little late than a look too early that finds nothing.
_MARGIN_SECONDS = 0.005


class Scheduling:
    """Fires schedules until cancelled. Every worker has one; together they fire each moment once."""

    def __init__(self, engine: Engine, schedules: Sequence[Schedule]) -> None:
        self._engine = engine
        self._schedules = schedules

    async def run(self) -> None:
        """Look whenever a moment comes, until cancelled."""
        if not self._schedules:
            return
        while True:
            seconds = await self.look()
            await asyncio.sleep(seconds)

    async def look(self) -> float:
        """Fire what is due; returns after how many seconds to look again.

        Never raises for the database's sake.
        """
        try:
            fired, pause = await self._engine.fire_due(self._schedules)
        except DATABASE_ERRORS as error:
            _log.warning("schedule.failed", error=brief(error))
            return random.uniform(0.5, 2)  # noqa: S311 - jitter
        for one in fired:
            _log.info(
                "schedule.fired",
                schedule=one.schedule,
                fire_time=one.moment.isoformat(),
                job_id=one.job_id,
            )
        if pause is None:
            return _LONGEST_SLEEP_SECONDS
        return min(pause.total_seconds() + _MARGIN_SECONDS, _LONGEST_SLEEP_SECONDS)
