"""A worker keeps the minutes counted, and an outage does not end that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
from support.queueing import add, query
from typing_extensions import override

from docyard_queue import PostgresEngine
from docyard_workers.process import counting

if TYPE_CHECKING:
    import pytest

    from docyard_schema import Database


class Faulty(PostgresEngine):
    """Fails once, as a lost connection does."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.failures = 0
        self.counted = asyncio.Event()

    @override
    async def count_minutes(self) -> bool:
        if not self.failures:
            self.failures += 1
            raise psycopg.OperationalError("the connection is lost")
        done = await super().count_minutes()
        self.counted.set()
        return done


async def test_minutes_are_counted_after_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_SECONDS", 0.01)
    await add(database)
    await query(
        database, "UPDATE docyard.procrastinate_jobs SET created_at = created_at - interval '5 minutes'"
    )
    engine = Faulty(database)
    task = asyncio.create_task(counting.keep_counting(engine))
    async with asyncio.timeout(20):
        await engine.counted.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [row] = await query(database, "SELECT enqueued FROM docyard.throughput")
    assert (engine.failures, row["enqueued"]) == (1, 1)
