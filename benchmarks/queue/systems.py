"""The queues that are compared, and how each is set up."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.isolation import node_environment, python_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = Path(__file__).parent
_DRIVERS = _HERE / "drivers"
_REQUIREMENTS = _HERE / "requirements"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One queue at one setting.

    ``unfinished`` counts the jobs that wait or run. ``worker`` are the options of the driver's ``work``.
    ``part`` is how much of the run's jobs it gets, so that a slow one takes no longer. Variants of one
    ``package`` share their enqueueing.
    """

    name: str
    package: str
    worker: Mapping[str, Any]
    unfinished: str
    settings: str
    part: float = 1
    latency_worker: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> tuple[list[str], Path | None]:
        """How its driver starts, and in which folder. Raises :class:`NotInstallable`."""
        if self.package == "docyard":
            return [sys.executable, str(_DRIVERS / "docyard_driver.py")], None
        if self.package == "graphile-worker":
            folder = node_environment(self.package, _REQUIREMENTS / self.package / "package.json")
            return ["node", str(_DRIVERS / "graphile_worker_driver.mjs")], folder
        python = python_environment(self.package, _REQUIREMENTS / f"{self.package}.txt")
        return [str(python), str(_DRIVERS / f"{self.package}_driver.py")], None
