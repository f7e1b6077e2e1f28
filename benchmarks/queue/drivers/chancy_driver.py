"""chancy: a sync producer (its faster colour), a worker with the executor for coroutines."""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg
from chancy import Chancy, Job, Queue, Worker
from protocol import answer_command_line, enqueue_with_pauses, start_recorder, wait_for_go
from psycopg.rows import dict_row

_quiet = logging.getLogger("chancy")
_quiet.setLevel(logging.WARNING)
_started = start_recorder(trace=False)


async def noop(*, number: int) -> None:
    _started(number)


async def prepare(url: str) -> None:
    async with Chancy(url, log=_quiet) as chancy:
        await chancy.migrate()


async def enqueue_single(url: str, count: int) -> dict[str, float]:
    with Chancy(url, log=_quiet) as chancy:
        began = time.monotonic()
        for number in range(count):
            chancy.sync_push(_job(number))
        return {"seconds": time.monotonic() - began}


async def enqueue_transaction(url: str, count: int, size: int) -> dict[str, float]:
    with (
        Chancy(url, log=_quiet) as chancy,
        psycopg.connect(url) as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        began = time.monotonic()
        for first in range(0, count, size):
            for number in range(first, min(first + size, count)):
                chancy.sync_push_many_ex(cursor, [_job(number)])
            connection.commit()
        return {"seconds": time.monotonic() - began}


async def enqueue_bulk(url: str, count: int, size: int = 5_000) -> dict[str, float]:
    with Chancy(url, log=_quiet) as chancy:
        began = time.monotonic()
        for _ in chancy.sync_push_many([_job(number) for number in range(count)], batch_size=size):
            pass
        return {"seconds": time.monotonic() - began}


async def enqueue_slowly(url: str, count: int, pause_seconds: float) -> dict[str, Any]:
    async with Chancy(url, log=_quiet) as chancy:
        return await enqueue_with_pauses(
            lambda number: chancy.push(_job(number)), count=count, pause_seconds=pause_seconds
        )


async def work(
    url: str,
    concurrency: int,
    eager: bool = True,
    polling_seconds: int = 1,
    update_seconds: float = 1,
    trace: bool = False,
) -> None:
    global _started
    _started = start_recorder(trace=trace)
    async with Chancy(url, log=_quiet) as chancy:
        await chancy.declare(
            Queue(
                "default",
                concurrency=concurrency,
                executor=Chancy.Executor.Async,
                polling_interval=polling_seconds,
                eager_polling=eager,
            ),
            upsert=True,
        )
        worker = Worker(chancy, register_signal_handlers=False)
        worker.send_outgoing_interval = update_seconds
        await wait_for_go()
        async with worker:
            await worker.wait_for_shutdown()


def _job(number: int) -> Job:
    return Job(func="chancy_driver.noop", kwargs={"number": number})


if __name__ == "__main__":
    # A job names its function by its module, and the worker is to find this very one.
    import sys

    sys.modules["chancy_driver"] = sys.modules["__main__"]
    answer_command_line(prepare, enqueue_single, enqueue_transaction, enqueue_bulk, enqueue_slowly, work)
