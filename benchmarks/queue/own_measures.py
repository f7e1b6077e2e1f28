"""What is measured of docyard alone: what its promises cost beside a plain drain (``drain_1``)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg

from benchmarks.queue.measures import drain_rate, first_start, until_done
from benchmarks.servers import settle

if TYPE_CHECKING:
    from benchmarks.queue.driver import Driver

_BACKLOG = """
INSERT INTO docyard.procrastinate_jobs
    (queue_name, task_name, args, status, attempts, lease, max_attempts, started_at, finished_at)
SELECT 'default', 'noop', json_build_object('number', number)::jsonb, %s, %s, %s, 3, %s, %s
FROM generate_series(1, %s) AS number
"""
_LIMIT = "INSERT INTO docyard.queues (name, concurrency) VALUES ('default', %s)"
_BESIDE = {
    "future": "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, scheduled_at) "
    "SELECT 'default', 'noop', now() + interval '1 day' FROM generate_series(1, %s)",
    "paused": "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, priority) "
    "SELECT 'paused', 'noop', 1 FROM generate_series(1, %s)",
}
_UNCOMPLETED = "SELECT {count} - count(*) FROM docyard.procrastinate_jobs WHERE status = 'succeeded'"


def at_concurrency(driver: Driver, url: str, count: int, concurrency: int) -> float:
    """A drain by a worker that runs so many jobs at once."""
    driver.ask("enqueue_bulk", url, count=count)
    return drain_rate(driver, url, count, worker={"concurrency": concurrency})


def with_keys(driver: Driver, url: str, count: int, **keys: int) -> float:
    """A drain of jobs with so many different ``lock_keys`` or ``partitions``."""
    driver.ask("enqueue_bulk", url, count=count, **keys)
    return drain_rate(driver, url, count)


def with_limit(driver: Driver, url: str, count: int, *, concurrency: int) -> float:
    """A drain of a queue of whose jobs so many may run at once."""
    driver.ask("enqueue_bulk", url, count=count)
    with psycopg.connect(url) as connection:
        connection.execute(_LIMIT, [concurrency])
    return drain_rate(driver, url, count)


def beside(driver: Driver, url: str, count: int, others: str, *, number: int) -> float:
    """A drain while ``number`` jobs wait that cannot run: of the ``future``, or of a ``paused`` queue."""
    with psycopg.connect(url) as connection:
        connection.execute(_BESIDE[others], [number])
        connection.execute("INSERT INTO docyard.queues (name, paused) VALUES ('paused', true)")
    driver.ask("enqueue_bulk", url, count=count)
    settle(url)
    with driver.workers(url, 1) as workers:
        workers[0].go()
        return until_done(driver, url, count + number, first_start(workers), leave=number)


def with_held_transaction(driver: Driver, url: str, count: int, *, before: int) -> float:
    """A drain while a transaction is open that began before, and ``before`` jobs were done since.

    Nothing that dies meanwhile can be vacuumed away: every claim may have to step over it.
    """
    with psycopg.connect(url) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT count(*) FROM docyard.procrastinate_jobs")
        if before:
            driver.ask("enqueue_bulk", url, count=before)
            drain_rate(driver, url, before)
        driver.ask("enqueue_bulk", url, count=count)
        return drain_rate(driver, url, count)


def with_backlog(driver: Driver, url: str, count: int, *, waiting: int, finished: int) -> float:
    """The first ``count`` jobs of a drain when so many wait, among so many finished ones."""
    waiting = max(waiting, count)
    with psycopg.connect(url) as connection:
        connection.execute(_BACKLOG, ["succeeded", 1, 1, "now", "now", finished])
        connection.execute(_BACKLOG, ["todo", 0, 0, None, None, waiting])
    settle(url)
    with driver.workers(url, 1) as workers:
        workers[0].go()
        return until_done(driver, url, waiting, first_start(workers), leave=waiting - count)


def end_to_end(driver: Driver, url: str, count: int) -> float:
    """One process adds jobs, 1,000 a transaction, while another runs them: first start to last completion."""
    settle(url)
    with driver.workers(url, 1) as workers, ThreadPoolExecutor(1) as background:
        workers[0].go()
        adding = background.submit(driver.ask, "enqueue_bulk", url, count=count, size=1000)
        began = first_start(workers)
        rate = until_done(driver, url, count, began, unfinished=_UNCOMPLETED.format(count=count))
        adding.result()
        return rate
