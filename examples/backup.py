"""Dumps the embedded database into a file, and restores such a file into a new, empty home.

    python backup.py dump .docyard docyard.dump
    python backup.py restore docyard.dump .docyard-restored

Both work while others use the home they read. A server elsewhere needs no script: see docs/operations.md.
"""

import subprocess
import sys
from pathlib import Path

import psycopg

from docyard_schema.embedded import EmbeddedServer
from docyard_schema.embedded.binaries import find_binaries


def dump(home: Path, file: Path) -> None:
    """Write all of a home's database into ``file``, in pg_dump's own format: compressed, and consistent."""
    with EmbeddedServer.acquire(home) as server, file.open("wb") as target:
        pg_dump = find_binaries()[server.version].program("pg_dump")
        command = [pg_dump, "--format=custom", server.conninfo]
        subprocess.run(command, stdout=target, check=True)  # noqa: S603


def restore(file: Path, home: Path) -> None:
    """Fill the empty database of a new home; refused when there is something in it."""
    with EmbeddedServer.acquire(home) as server:
        with psycopg.connect(server.conninfo) as connection:
            if connection.execute("SELECT to_regnamespace('docyard')").fetchone() != (None,):
                sys.exit(f"{home} holds a docyard already: restore into a new folder.")
        pg_restore = find_binaries()[server.version].program("pg_restore")
        arguments = ["--exit-on-error", "--single-transaction", f"--dbname={server.conninfo}"]
        with file.open("rb") as source:
            subprocess.run([pg_restore, *arguments], stdin=source, check=True)  # noqa: S603


if __name__ == "__main__":
    action, first, second = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    {"dump": dump, "restore": restore}[action](first, second)
