"""Counts jobs by minute for the views; of all workers one does it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outage import DATABASE_ERRORS, brief

if TYPE_CHECKING:
    from docyard_queue.engine import Engine

_log = structlog.get_logger("docyard.worker")

_SECONDS = 15


async def keep_counting(engine: Engine) -> None:
    """Count the minutes that have ended, every 15 seconds or so, until cancelled.

    Apart from the recovery: over many jobs a count takes seconds, and no rescue should wait for it.
    """
    while True:
        await asyncio.sleep(_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        try:
            await engine.count_minutes()
        except DATABASE_ERRORS as error:
            _log.warning("minutes.failed", error=brief(error))
