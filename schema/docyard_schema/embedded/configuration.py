"""How the embedded server is set up."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docyard_schema.embedded.binaries import Binaries

# For a laptop that also runs the application: safe as a server, modest in memory.
_SETTINGS = {
    "fsync": "on",
    "autovacuum": "on",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # The server's own life, not its clients' mistakes: those reach the client that made them, and
    # the log stays small and free of the texts in their statements.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
_SMALL_SHARED_MEMORY_BYTES = 2**30


def server_options(settings: Mapping[str, str], sockets: Path) -> list[str]:
    """The arguments of ``postgres``; ``settings`` win over ours, and nothing over where it listens."""
    chosen = {**_SETTINGS, "dynamic_shared_memory_type": _shared_memory(), **settings}
    fixed = {"listen_addresses": "", "port": "5432", "unix_socket_directories": str(sockets)}
    return [part for name, value in (chosen | fixed).items() for part in ("-c", f"{name}={value}")]


def initdb_variants(binaries: Binaries) -> Iterator[list[str]]:
    """The arguments of ``initdb``, the best first: a system that lacks a locale refuses at once.

    All sort by code point. The character type decides what text search takes for a letter, so that
    an em dash parts two words; plain C knows ASCII only and is the last resort.
    """
    common = [
        "--encoding=UTF8",
        "--auth=trust",
        "--username=postgres",
        "--no-instructions",
        "--data-checksums",
    ]
    if binaries.major >= 17:
        common += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    for letters in ("C.UTF-8", "en_US.UTF-8", "C"):
        yield [*common, "--locale=C", f"--lc-ctype={letters}"]


def _shared_memory() -> str:
    # A container's /dev/shm holds 64 MB, too little to build an HNSW index in parallel.
    # System V memory is not bound by that mount; elsewhere than on Linux it is tiny.
    if not sys.platform.startswith("linux"):
        return "posix"
    try:
        mount = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return "sysv"
    roomy = mount.f_blocks * mount.f_frsize >= _SMALL_SHARED_MEMORY_BYTES
    return "posix" if roomy and os.access("/dev/shm", os.W_OK) else "sysv"  # noqa: S108
