"""What a benchmark was measured on. Nothing in it tells whose machine it was."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "jit")


def describe_environment(url: str, systems: Mapping[str, str]) -> dict[str, Any]:
    """The machine, the Postgres behind ``url``, and what was compared (name → version and settings)."""
    with psycopg.connect(url, autocommit=True) as connection:
        postgres = {"version": _one(connection, "SHOW server_version")}
        postgres |= {name: _one(connection, f"SHOW {name}") for name in _SETTINGS}
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "docyard": version("docyard"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_at_start": round(os.getloadavg()[0], 1),
        "postgres": postgres,
        "systems": dict(systems),
    }


def _one(connection: psycopg.Connection[Any], statement: str) -> str:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])
