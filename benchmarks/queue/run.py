"""One run: all measures of all systems, in turns, so that what disturbs one disturbs its neighbours too."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.environment import describe_environment
from benchmarks.isolation import NotInstallable
from benchmarks.queue.driver import Driver
from benchmarks.queue.measures import drain_rate, enqueue_rate, latency
from benchmarks.queue.own_measures import (
    at_concurrency,
    beside,
    end_to_end,
    with_backlog,
    with_held_transaction,
    with_keys,
    with_limit,
)
from benchmarks.results import number as shown
from benchmarks.servers import Server, temporary_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from benchmarks.queue.systems import System
    from benchmarks.results import Measures

    # Given a driver, the URL of a fresh database and the sizes: a value, or several by name.
    Measure: TypeAlias = Callable[[Driver, str, "Sizes"], "float | dict[str, float]"]

LESS_IS_BETTER = ("latency_p50_ms", "latency_p99_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    jobs: int
    rounds: int
    waiting: int
    finished: int

    def __str__(self) -> str:
        return f"{self.jobs:,} jobs, best of {self.rounds}."


def run(
    systems: Sequence[System], sizes: Sizes, *, wanted: Sequence[str] | None = None
) -> tuple[dict[str, Any], Measures, Measures]:
    """What it was measured on, what was compared, and what was measured of docyard alone."""
    compared: Measures = {}
    own: Measures = {}
    with temporary_server() as server:
        drivers = _prepared(server, systems)
        environment = describe_environment(
            server.url("postgres"), {driver.system.name: driver.system.description() for driver in drivers}
        )
        ours = [driver for driver in drivers if driver.system.package == "docyard"]
        for _ in range(sizes.rounds):
            _measure(compared, server, drivers, _chosen(_COMPARED, wanted), sizes)
            _measure(own, server, ours, _chosen(_OWN, wanted), sizes)
    return environment, compared, own


def _prepared(server: Server, systems: Sequence[System]) -> list[Driver]:
    """A driver of each system that can be had here, its schema in a template database."""
    drivers: list[Driver] = []
    for system in systems:
        try:
            driver = Driver(system)
            if system.package not in {other.system.package for other in drivers}:
                driver.ask("prepare", server.create(_template(system)))
        except (NotInstallable, RuntimeError) as error:
            _tell(f"{system.name} is left out: {error}")
        else:
            drivers.append(driver)
    return drivers


def _measure(
    found: Measures, server: Server, drivers: Sequence[Driver], measures: Mapping[str, Measure], sizes: Sizes
) -> None:
    """Measure all once; ``found`` keeps the best of each, which was disturbed least."""
    for name, measure in measures.items():
        for driver in _once_a_package(drivers) if name.startswith("enqueue") else drivers:
            began = time.monotonic()
            try:
                with server.copy(_template(driver.system)) as url:
                    values = measure(driver, url, sizes)
            except (RuntimeError, TimeoutError, psycopg.Error) as error:
                _tell(f"{name} of {driver.system.name} failed: {error}")
                continue
            for key, value in (values if isinstance(values, dict) else {name: values}).items():
                kept = found.setdefault(key, {})
                best = min if key in LESS_IS_BETTER else max
                kept[driver.system.name] = best(round(value, 3), kept.get(driver.system.name, value))
                _tell(f"{key:24}{driver.system.name:26}{shown(value):>8}{time.monotonic() - began:7.1f} s")


def _once_a_package(drivers: Sequence[Driver]) -> list[Driver]:
    """Variants of a package differ in how they work, not in how they enqueue."""
    return [driver for driver in drivers if driver.system.name == driver.system.package]


def _template(system: System) -> str:
    return f"queue_{system.package}".replace("-", "_")


def _chosen(measures: Mapping[str, Measure], wanted: Sequence[str] | None) -> dict[str, Measure]:
    return {name: measure for name, measure in measures.items() if wanted is None or name in wanted}


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _enqueue(verb: str, part: float, **options: Any) -> Measure:
    def measure(driver: Driver, url: str, sizes: Sizes) -> float:
        count = max(int(sizes.jobs * part * max(driver.system.part, 0.3)), 20)
        return enqueue_rate(driver, url, verb, count, **options)

    return measure


def _drain(processes: int) -> Measure:
    def measure(driver: Driver, url: str, sizes: Sizes) -> float:
        count = max(int(sizes.jobs * driver.system.part), 20)
        driver.ask("enqueue_bulk", url, count=count)
        return drain_rate(driver, url, count, processes=processes)

    return measure


def _latency(driver: Driver, url: str, sizes: Sizes) -> dict[str, float]:
    return latency(driver, url, min(500, max(sizes.jobs // 10, 20)))


_COMPARED: dict[str, Measure] = {
    "enqueue_single": _enqueue("enqueue_single", 0.05),
    "enqueue_transaction": _enqueue("enqueue_transaction", 0.2, size=100),
    "enqueue_bulk": _enqueue("enqueue_bulk", 1),
    "drain_1": _drain(1),
    "drain_2": _drain(2),
    "latency": _latency,
}
_OWN: dict[str, Measure] = {
    "drain_concurrency_10": lambda driver, url, sizes: at_concurrency(driver, url, sizes.jobs // 2, 10),
    "drain_lock_keys": lambda driver, url, sizes: with_keys(driver, url, sizes.jobs, lock_keys=sizes.jobs),
    "drain_one_lock_key": lambda driver, url, sizes: with_keys(driver, url, sizes.jobs // 10, lock_keys=1),
    "drain_partitions": lambda driver, url, sizes: with_keys(driver, url, sizes.jobs, partitions=100),
    "drain_limited": lambda driver, url, sizes: with_limit(driver, url, sizes.jobs, concurrency=400),
    "drain_beside_future": lambda driver, url, sizes: beside(
        driver, url, sizes.jobs, "future", number=sizes.waiting
    ),
    "drain_beside_paused": lambda driver, url, sizes: beside(
        driver, url, sizes.jobs, "paused", number=sizes.waiting
    ),
    "drain_held_transaction": lambda driver, url, sizes: with_held_transaction(
        driver, url, sizes.jobs, before=2 * sizes.jobs
    ),
    "drain_backlog": lambda driver, url, sizes: with_backlog(
        driver, url, sizes.jobs, waiting=sizes.waiting, finished=sizes.finished
    ),
    "end_to_end": lambda driver, url, sizes: end_to_end(driver, url, sizes.jobs),
}
MEASURES = (*_COMPARED, *_OWN)
