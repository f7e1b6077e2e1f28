"""procrastinate: a sync producer (its faster colour), an async worker."""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from protocol import answer_command_line, enqueue_with_pauses, start_recorder, wait_for_go

# Below it warns that the App is in the main module, which is meant for workers started by name.
logging.getLogger("procrastinate").setLevel(logging.ERROR)


async def prepare(url: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=url))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue_single(url: str, count: int) -> dict[str, float]:
    app = App(connector=SyncPsycopgConnector(conninfo=url))
    noop = app.task(name="noop")(_noop)
    with app.open():
        began = time.monotonic()
        for number in range(count):
            noop.defer(number=number)
        return {"seconds": time.monotonic() - began}


async def enqueue_transaction(url: str, count: int, size: int) -> dict[str, float]:
    app = App(connector=SyncPsycopgConnector(conninfo=url))
    noop = app.task(name="noop")(_noop)
    with app.open(), psycopg.connect(url) as connection:
        began = time.monotonic()
        for first in range(0, count, size):
            for number in range(first, min(first + size, count)):
                noop.configure(connection=connection).defer(number=number)
            connection.commit()
        return {"seconds": time.monotonic() - began}


async def enqueue_bulk(url: str, count: int, size: int = 5_000) -> dict[str, float]:
    app = App(connector=SyncPsycopgConnector(conninfo=url))
    noop = app.task(name="noop")(_noop)
    with app.open():
        began = time.monotonic()
        for first in range(0, count, size):
            noop.batch_defer(*({"number": number} for number in range(first, min(first + size, count))))
        return {"seconds": time.monotonic() - began}


async def enqueue_slowly(url: str, count: int, pause_seconds: float) -> dict[str, Any]:
    app = App(connector=PsycopgConnector(conninfo=url))
    noop = app.task(name="noop")(_noop)
    async with app.open_async():
        return await enqueue_with_pauses(
            lambda number: noop.defer_async(number=number), count=count, pause_seconds=pause_seconds
        )


async def work(
    url: str, concurrency: int, pool: int = 10, delete_jobs: str = "never", trace: bool = False
) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=pool, max_size=pool))
    started = start_recorder(trace=trace)

    @app.task(name="noop")
    async def noop(number: int) -> None:
        started(number)

    async with app.open_async():
        await wait_for_go()
        await app.run_worker_async(
            concurrency=concurrency, delete_jobs=delete_jobs, install_signal_handlers=False
        )


def _noop(number: int) -> None:
    """Only deferred here; ``work`` has the one that runs."""


if __name__ == "__main__":
    answer_command_line(prepare, enqueue_single, enqueue_transaction, enqueue_bulk, enqueue_slowly, work)
