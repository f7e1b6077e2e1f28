"""pgqueuer: on asyncpg, which its own benchmark finds to be the faster of its drivers."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries
from protocol import answer_command_line, enqueue_with_pauses, start_recorder, wait_for_go


async def prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.close()


async def enqueue_single(url: str, count: int) -> dict[str, float]:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    began = time.monotonic()
    for number in range(count):
        await queries.enqueue("noop", b"%d" % number)
    return {"seconds": time.monotonic() - began}


async def enqueue_transaction(url: str, count: int, size: int) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    began = time.monotonic()
    for first in range(0, count, size):
        async with connection.transaction():
            for number in range(first, min(first + size, count)):
                await queries.enqueue("noop", b"%d" % number)
    return {"seconds": time.monotonic() - began}


async def enqueue_bulk(url: str, count: int, size: int = 20_000) -> dict[str, float]:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    began = time.monotonic()
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        await queries.enqueue(
            ["noop"] * len(numbers), [b"%d" % number for number in numbers], [0] * len(numbers)
        )
    return {"seconds": time.monotonic() - began}


async def enqueue_slowly(url: str, count: int, pause_seconds: float) -> dict[str, Any]:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    return await enqueue_with_pauses(
        lambda number: queries.enqueue("noop", b"%d" % number), count=count, pause_seconds=pause_seconds
    )


async def work(url: str, batch_size: int, managers: int = 1, pool: int = 0, trace: bool = False) -> None:
    started = start_recorder(trace=trace)
    queuers = []
    for _ in range(managers):
        if pool:
            driver = AsyncpgPoolDriver(await asyncpg.create_pool(url, min_size=pool, max_size=pool))
        else:
            driver = AsyncpgDriver(await asyncpg.connect(url))
        queuer = PgQueuer(driver)

        @queuer.entrypoint("noop")
        async def noop(job: Any) -> None:
            started(int(job.payload))

        queuers.append(queuer)
    await wait_for_go()
    await asyncio.gather(
        *(queuer.run(batch_size=batch_size, dequeue_timeout=timedelta(seconds=5)) for queuer in queuers)
    )


if __name__ == "__main__":
    answer_command_line(prepare, enqueue_single, enqueue_transaction, enqueue_bulk, enqueue_slowly, work)
