"""Line 1, at its worst: a worker process is killed every half second, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually
from support.queueing import query
from support.storm import LONG, charged, exactly_once, is_over, prepare, storm

if TYPE_CHECKING:
    from pathlib import Path

    from docyard_schema import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault(1)]

# Kills come by the clock and not by the work done: on a busy machine a storm without an end would never let
# a worker come to its work.
CHARGES, LEAST_KILLS, SECONDS = (1000, 20, 60) if LONG else (200, 4, 6)


async def test_every_effect_is_there_exactly_once_after_a_storm_of_sigkills(
    database: Database, url: str, tmp_path: Path
) -> None:
    await prepare(database, CHARGES)
    with storm(url, tmp_path) as raging:
        await eventually(lambda: charged(database), seconds=60, what="the first effect")
        over = asyncio.get_running_loop().time() + SECONDS
        while await charged(database) < CHARGES * 0.95 and asyncio.get_running_loop().time() < over:
            await asyncio.sleep(0.5)
            raging.kill_one()
        await eventually(lambda: is_over(database), seconds=120, what="what the storm left to end")
        assert raging.stop() == [0, 0, 0]
    await exactly_once(database, CHARGES)
    crashed = await query(database, "SELECT 1 FROM docyard.attempts WHERE outcome IN ('crashed', 'released')")
    assert crashed, "it was killed in the middle of its work"
    assert raging.kills >= LEAST_KILLS
    assert await query(database, "SELECT 1 FROM docyard.workers") == []
