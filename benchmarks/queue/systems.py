"""The queues that are compared, and how each is set up."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.isolation import node_environment, python_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HERE = Path(__file__).parent
_DRIVERS = _HERE / "drivers"
_REQUIREMENTS = _HERE / "requirements"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One queue at one setting.

    ``worker`` are the options of its driver's ``work``, ``settings`` say them in words. ``unfinished`` is SQL
    that counts the jobs which wait or run. ``part`` is its part of the run's jobs: a slow one shall take no
    longer. ``idle_worker`` are other options where latency is measured.
    """

    name: str
    package: str
    worker: Mapping[str, Any]
    settings: str
    unfinished: str
    part: float = 1
    idle_worker: Mapping[str, Any] | None = None

    def command(self) -> tuple[list[str], Path | None]:
        """How its driver starts, and in which folder. Raises :class:`NotInstallable`."""
        if self.package == "docyard":
            return [sys.executable, str(_DRIVERS / "docyard_driver.py")], None
        if self.package == "graphile-worker":
            folder = node_environment(self.package, _REQUIREMENTS / self.package / "package.json")
            return ["node", str(_DRIVERS / "graphile_worker_driver.mjs")], folder
        python = python_environment(self.package, _REQUIREMENTS / f"{self.package}.txt")
        return [str(python), str(_DRIVERS / f"{self.package}_driver.py")], None

    def description(self) -> str:
        """Its version, and how it is set up."""
        if self.package == "docyard":
            version = installed_version("docyard")
        elif self.package == "graphile-worker":
            wanted = json.loads((_REQUIREMENTS / self.package / "package.json").read_text())
            version = wanted["dependencies"][self.package]
        else:
            lines = (_REQUIREMENTS / f"{self.package}.txt").read_text().splitlines()
            version = lines[0].partition("==")[2]
        return f"{version}: {self.settings}"


_PGQUEUER = "SELECT count(*) FROM pgqueuer"
_GRAPHILE_WORKER = "SELECT count(*) FROM graphile_worker._private_jobs"

# A package's best setting bears its name. Where each is documented: benchmarks/README.md.
_SYSTEMS = (
    System(
        name="docyard",
        package="docyard",
        worker={"concurrency": 2000},
        settings="concurrency 2000",
        unfinished="SELECT count(*) FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing')",
    ),
    System(
        name="procrastinate",
        package="procrastinate",
        worker={"concurrency": 10, "delete_jobs": "successful"},
        settings="concurrency 10, 10 connections, successful jobs deleted",
        unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        part=0.1,
    ),
    System(
        name="pgqueuer",
        package="pgqueuer",
        worker={"batch_size": 1000},
        settings="asyncpg, batch_size 1000, its autovacuum settings",
        unfinished=_PGQUEUER,
    ),
    System(
        name="pgqueuer (batch 10)",
        package="pgqueuer",
        worker={"batch_size": 10, "managers": 5},
        settings="asyncpg, batch_size 10 (default), 5 managers a process (1 when idle)",
        unfinished=_PGQUEUER,
        part=0.4,
        idle_worker={"batch_size": 10},
    ),
    System(
        name="chancy",
        package="chancy",
        worker={"concurrency": 1000, "eager": True, "update_seconds": 0.1},
        settings="AsyncExecutor, concurrency 1000, eager polling, updates sent every 0.1 s",
        unfinished="SELECT count(*) FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed')",
        part=0.3,
    ),
    System(
        name="graphile-worker",
        package="graphile-worker",
        worker={
            "concurrentJobs": 24,
            "pool": 25,
            "localQueue": {"size": 2000},
            "completeJobBatchDelay": 5,
            "failJobBatchDelay": 5,
        },
        settings="24 jobs at once, localQueue 2000, completions and failures batched over 5 ms",
        unfinished=_GRAPHILE_WORKER,
    ),
    System(
        name="graphile-worker (plain)",
        package="graphile-worker",
        worker={"concurrentJobs": 24, "pool": 25},
        settings="24 jobs at once, 25 connections",
        unfinished=_GRAPHILE_WORKER,
        part=0.3,
    ),
)


def chosen_systems(packages: Sequence[str] | None, *, concurrency: int | None) -> list[System]:
    """Those of the packages named (None: all), with docyard's worker at this ``concurrency``."""
    known = {system.package for system in _SYSTEMS}
    if unknown := set(packages or ()) - known:
        raise SystemExit(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}.")
    chosen = [system for system in _SYSTEMS if packages is None or system.package in packages]
    if concurrency is None:
        return chosen
    return [
        replace(system, worker={"concurrency": concurrency}, settings=f"concurrency {concurrency}")
        if system.package == "docyard"
        else system
        for system in chosen
    ]
