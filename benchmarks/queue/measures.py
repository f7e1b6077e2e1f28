"""What is measured of every system. Each measure gets a database of its own, as its schema left it."""

from __future__ import annotations

import select
import statistics
import time
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.servers import settle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.queue.driver import Driver, WorkerProcess

_LONGEST_DRAIN_SECONDS = 300
# The end of a drain is found to this.
_RESOLUTION_SECONDS = 0.01


def enqueue_rate(driver: Driver, url: str, verb: str, count: int, **options: Any) -> float:
    """Jobs a second that one producer adds; connecting and starting it are not in it."""
    settle(url)
    seconds: float = driver.ask(verb, url, count=count, **options)["seconds"]
    return count / seconds


def drain_rate(
    driver: Driver, url: str, count: int, *, processes: int = 1, worker: Mapping[str, Any] | None = None
) -> float:
    """Jobs a second from the first handler's start to the last completion in the database.

    The jobs wait already; the processes have started, connected and loaded everything.
    """
    settle(url)
    with driver.workers(url, processes, options=worker) as workers:
        for one in workers:
            one.go()
        began = first_start(workers)
        return until_done(driver, url, count, began)


def first_start(workers: Sequence[WorkerProcess]) -> float:
    """When the first handler of any of the workers started."""
    said, _, _ = select.select(workers, [], [], _LONGEST_DRAIN_SECONDS)
    return min(float(worker.read()["at"]) for worker in said)


def until_done(
    driver: Driver, url: str, count: int, began: float, *, leave: int = 0, unfinished: str | None = None
) -> float:
    """Jobs a second since ``began``, when at most ``leave`` are unfinished; ``count`` were at first.

    The count itself costs the database little: it is asked for about ten times in all.
    """
    statement = (unfinished or driver.system.unfinished).encode()
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(statement).fetchone()
            assert row is not None
            left, elapsed = row[0], time.monotonic() - began
            done = count - left
            if left <= leave:
                return float(done / elapsed)
            if elapsed > _LONGEST_DRAIN_SECONDS:
                raise TimeoutError(f"{driver.system.name}: {left:,} of {count:,} jobs are not done.")
            # An estimate from the first few jobs is not worth much.
            estimate = min((left - leave) * elapsed / max(done, 1), elapsed)
            time.sleep(max(estimate / 2, _RESOLUTION_SECONDS))


def latency(driver: Driver, url: str, count: int, *, pause_seconds: float = 0.005) -> dict[str, float]:
    """Milliseconds from the return of a single enqueue, which then has committed, to its handler's start.

    One worker process, its queue idle. At most some 1,000 jobs: what the worker says waits in a pipe.
    """
    with driver.workers(url, 1, options=driver.system.idle_worker, trace=True) as [worker]:
        worker.go()
        # A worker that has just begun looks at its queue, and opens connections, more than once.
        time.sleep(1)
        committed = driver.ask("enqueue_slowly", url, count=count, pause_seconds=pause_seconds)["committed"]
        started = {answer["number"]: answer["at"] for answer in (worker.read() for _ in range(count))}
    waits = sorted(1000 * (started[number] - at) for number, at in enumerate(committed))
    return {"latency_p50_ms": statistics.median(waits), "latency_p99_ms": waits[int(count * 0.99)]}
