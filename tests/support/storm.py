"""Worker processes in a storm, and what is left after it."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support import storm_app
from support.app_process import AppProcess
from support.queueing import add, query

from docyard_queue import NewJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docyard_schema import Database

# ``make faults`` runs the storms in full, ``make test`` a short one of each kind.
LONG = os.environ.get("FAULTS") == "long"


class Storm:
    """``workers`` processes of :mod:`support.storm_app`, each in the place of one that was killed."""

    def __init__(self, url: str, folder: Path, workers: int, options: dict[str, Any]) -> None:
        self.kills = 0
        self._url = url
        self._folder = folder
        self._options = {"heartbeat_seconds": 0.3, "concurrency": 4, "poll_seconds": 0.5} | options
        self._chance = random.Random(1)
        self._started: list[AppProcess] = []
        self._running = [self._start() for _ in range(workers)]

    def kill_one(self) -> None:
        """SIGKILL to any of them, and another in its place at once."""
        place = self._chance.randrange(len(self._running))
        self._running[place].kill()
        self._running[place] = self._start()
        self.kills += 1

    @property
    def logs(self) -> str:
        """What all have said, the killed ones too."""
        return "\n".join(process.log for process in self._started)

    @property
    def all_live(self) -> bool:
        """Whether none ended that nobody killed."""
        return not any(process.ended() for process in self._running)

    def stop(self) -> list[int]:
        """SIGTERM to all, and their exit codes."""
        return [process.stop() for process in self._running]

    def close(self) -> None:
        for process in self._running:
            process.kill()

    def _start(self) -> AppProcess:
        log = self._folder / f"storm {len(self._started)}.log"
        self._started.append(AppProcess(storm_app, self._url, log, self._options))
        return self._started[-1]


@contextmanager
def storm(url: str, folder: Path, *, workers: int = 3, **options: Any) -> Iterator[Storm]:
    """A storm whose processes are gone at the end of the block."""
    raging = Storm(url, folder, workers, options)
    try:
        yield raging
    finally:
        raging.close()


async def prepare(database: Database, charges: int) -> None:
    """The tables, and as many jobs, half of them for threads."""
    for statement in filter(str.strip, storm_app.TABLES.split(";")):
        await query(database, statement)
    kinds = ("charge", "charge in a thread")
    await add(database, *[NewJob(kinds[n % 2], max_attempts=storm_app.MANY) for n in range(charges)])


async def charged(database: Database) -> int:
    [found] = await query(database, "SELECT count(*) FROM public.charges")
    return int(found["count"])


async def is_over(database: Database) -> bool:
    """Whether no charge and no receipt is left to do. What waits after a crash need not wait any longer."""
    left = "FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing') AND task_name <> 'tick'"
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET scheduled_at = NULL "
        "WHERE status = 'todo' AND scheduled_at > now() + interval '1 s' AND task_name <> 'tick'",
    )
    return await query(database, f"SELECT {'count(*)'} {left}") == [{"count": 0}]


async def exactly_once(database: Database, charges: int) -> None:
    """Every effect is there once, every job completed, and no job was lost or doubled."""
    counts = await query(
        database,
        "SELECT (SELECT count(*) FROM public.charges) AS charges, "
        "(SELECT count(DISTINCT job_id) FROM public.charges) AS different_charges, "
        "(SELECT count(DISTINCT charge) FROM public.receipts) AS charges_with_receipts, "
        "(SELECT count(*) FROM public.receipts) AS receipts, "
        "(SELECT count(*) FROM docyard.jobs WHERE kind LIKE 'charge%%') AS charge_jobs, "
        "(SELECT count(*) FROM docyard.jobs WHERE kind = 'receipt') AS receipt_jobs",
    )
    assert counts == [dict.fromkeys(counts[0], charges)]
    states = await query(database, "SELECT DISTINCT state FROM docyard.jobs WHERE kind <> 'tick'")
    assert states == [{"state": "completed"}]
    twice = await query(
        database,
        "SELECT job_id FROM docyard.attempts WHERE outcome = 'completed' GROUP BY job_id HAVING count(*) > 1",
    )
    assert twice == []
    assert await query(database, "SELECT id FROM docyard.jobs WHERE attempts > max_attempts") == []
