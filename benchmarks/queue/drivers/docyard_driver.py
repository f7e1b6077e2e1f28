"""docyard: ``enqueue`` on a connection of the producer's own, a ``Worker`` with an async handler."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import psycopg
import structlog
from protocol import answer_command_line, enqueue_with_pauses, start_recorder, wait_for_go

from docyard_queue import NewJob, Registry, enqueue, enqueue_async, enqueue_many
from docyard_schema import Database
from docyard_workers.process import Worker, WorkerOptions

# Standard output is for answers.
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)


async def prepare(url: str) -> None:
    async with await Database.connect(url) as database:
        await database.initialize(migrate_schema=True)


async def enqueue_single(url: str, count: int) -> dict[str, float]:
    with psycopg.connect(url, autocommit=True) as connection:
        began = time.monotonic()
        for number in range(count):
            enqueue(connection, NewJob("noop", {"number": number}))
        return {"seconds": time.monotonic() - began}


async def enqueue_transaction(url: str, count: int, size: int) -> dict[str, float]:
    with psycopg.connect(url) as connection:
        began = time.monotonic()
        for first in range(0, count, size):
            for number in range(first, min(first + size, count)):
                enqueue(connection, NewJob("noop", {"number": number}))
            connection.commit()
        return {"seconds": time.monotonic() - began}


async def enqueue_bulk(
    url: str, count: int, size: int = 20_000, lock_keys: int = 0, partitions: int = 0
) -> dict[str, float]:
    """``lock_keys`` and ``partitions``: of so many different ones; 0 is none."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        began = time.monotonic()
        for first in range(0, count, size):
            await enqueue_many(
                connection,
                [
                    NewJob(
                        "noop",
                        {"number": number},
                        lock_key=f"key {number % lock_keys}" if lock_keys else None,
                        partition_key=f"key {number % partitions}" if partitions else None,
                    )
                    for number in range(first, min(first + size, count))
                ],
            )
            await connection.commit()
        return {"seconds": time.monotonic() - began}


async def enqueue_slowly(url: str, count: int, pause_seconds: float) -> dict[str, Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def one(number: int) -> None:
            await enqueue_async(connection, NewJob("noop", {"number": number}))

        return await enqueue_with_pauses(one, count=count, pause_seconds=pause_seconds)


async def work(url: str, concurrency: int, trace: bool = False) -> None:
    registry = Registry()
    started = start_recorder(trace=trace)

    @registry.handler("noop")
    async def noop(attempt: Any, payload: dict[str, Any]) -> None:
        started(payload["number"])

    async with (
        await Database.connect(url) as database,
        Worker(database, registry, WorkerOptions(concurrency=concurrency)) as worker,
    ):
        await wait_for_go()
        await worker.run()


if __name__ == "__main__":
    answer_command_line(prepare, enqueue_single, enqueue_transaction, enqueue_bulk, enqueue_slowly, work)
