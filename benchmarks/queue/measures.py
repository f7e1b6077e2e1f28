"""What is measured of every system. Each measure gets a database of its own, as its schema left it."""

from __future__ import annotations

import select
import statistics
import time
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.servers import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.queue.driver import Driver, WorkerProcess

_LONGEST_DRAIN_SECONDS = 300
# The end of a drain is found to this; before, it is looked for when half of what remains should be done.
_RESOLUTION_SECONDS = 0.01


def enqueue_rate(driver: Driver, url: str, verb: str, count: int, **options: Any) -> float:
    """Jobs a second that one producer adds; connecting and starting it are not in it."""
    settle(url)
    seconds: float = driver.ask(verb, url, count=count, **options)["seconds"]
    return count / seconds


def drain_rate(driver: Driver, url: str, count: int, *, processes: int = 1, **worker: Any) -> float:
    """Jobs a second from the first handler's start to the last completion in the database.

    The jobs wait already; the processes have started, connected and loaded everything.
    """
    settle(url)
    with driver.workers(url, processes, **worker) as workers:
        for one in workers:
            one.go()
        began = first_start(workers)
        return until_done(driver, url, count, began)


def first_start(workers: Sequence[WorkerProcess]) -> float:
    """When the first handler of any of the workers started."""
    said, _, _ = select.select(workers, [], [], _LONGEST_DRAIN_SECONDS)
    return min(float(worker.read()["at"]) for worker in said)


def until_done(driver: Driver, url: str, count: int, began: float, *, leave: int = 0) -> float:
    """Jobs a second since ``began``, once at most ``leave`` are unfinished; ``count`` were at first."""
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(driver.system.unfinished.encode()).fetchone()
            assert row is not None
            now, left = time.monotonic(), max(row[0], leave)
            done = count - row[0]
            if row[0] <= leave:
                return done / (now - began)
            if now - began > _LONGEST_DRAIN_SECONDS:
                raise TimeoutError(f"{driver.system.name}: {row[0]:,} of {count:,} jobs are not done.")
            seconds = (left - leave) * (now - began) / max(done, 1)
            # An estimate from the first few jobs is not worth much.
            time.sleep(max(min(seconds, now - began) / 2, _RESOLUTION_SECONDS))


def latency(driver: Driver, url: str, count: int, *, pause_seconds: float = 0.01) -> dict[str, float]:
    """Milliseconds from the return of a single enqueue's commit to its handler's start, on an idle queue."""
    with driver.workers(url, 1, trace=True, **driver.system.latency_worker) as [worker]:
        worker.go()
        # A worker that has just begun looks at its queue, and at its connections, more than once.
        time.sleep(1)
        told = driver.ask("enqueue_slowly", url, count=count, pause_seconds=pause_seconds)
        started = {answer["number"]: answer["at"] for answer in (worker.read() for _ in range(count))}
    waits = sorted(1000 * (started[number] - at) for number, at in enumerate(told["committed"]))
    since_call = [1000 * (started[number] - at) for number, at in enumerate(told["called"])]
    return {
        "p50": statistics.median(waits),
        "p99": waits[int(count * 0.99)],
        "since_call_p50": statistics.median(since_call),
    }
