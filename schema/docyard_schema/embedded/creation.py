"""Makes a data directory, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_schema.embedded.configuration import initdb_variants
from docyard_schema.embedded.home import WAYS_OUT
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from docyard_schema.embedded.account import Account
    from docyard_schema.embedded.binaries import Binaries
    from docyard_schema.embedded.home import Home
    from docyard_schema.embedded.locks import FileLock


def create_data_directory(home: Home, binaries: Binaries, account: Account, lock: FileLock) -> None:
    """Runs initdb beside the data directory's place and renames the result: a kill leaves no half of it.

    initdb inherits ``lock``, so nobody clears its folder away while it outlives us.
    """
    place = home.data_directory
    if place.exists() and any(place.iterdir()):
        raise EmbeddedError(
            f"{place} has files in it, but is no data directory of PostgreSQL.",
            hint=f"Move it away. Or: {WAYS_OUT}",
            operation="embedded.create",
        )
    unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=home.path))
    account.give(unfinished)
    _run_initdb(home, binaries, account, lock, unfinished)
    unfinished.rename(place)
    folder = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # initdb has synced the files, not the name they now have
    finally:
        os.close(folder)


def clear_leftovers(home: Home) -> None:
    """Removes the data directories whose making was interrupted."""
    for unfinished in home.path.glob("postgres.new-*"):
        shutil.rmtree(unfinished)


def _run_initdb(home: Home, binaries: Binaries, account: Account, lock: FileLock, target: Path) -> None:
    said = ""
    for variant in initdb_variants(binaries):
        argv, options = account.command([binaries.program("initdb"), "-D", str(target), *variant])
        options |= {"stdin": subprocess.DEVNULL, "pass_fds": [lock.descriptor]}
        made = subprocess.run(argv, capture_output=True, check=False, **options)  # noqa: S603
        if made.returncode == 0:
            return
        said = (made.stdout + made.stderr).decode(errors="replace")
        if "invalid locale" not in said:
            break
    raise failure(home, "could not be prepared", said)


def failure(home: Home, what: str, said: str) -> EmbeddedError:
    """An error that ends with the last lines a program said."""
    tail = "\n".join(said.splitlines()[-15:]) or "(It said nothing.)"
    free = shutil.disk_usage(home.path).free
    return EmbeddedError(
        f"The embedded Postgres of {home.path} {what}. Its last words:\n{tail}",
        hint=f"The log is {home.log}; its disk has {free // 2**20} MB free. {WAYS_OUT}",
        operation="embedded.start",
        reason=tail,
    )
