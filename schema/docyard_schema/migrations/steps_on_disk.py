"""The schema steps that this version of docyard carries: ``steps/NNNN_name.up.sql`` and ``.down.sql``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from docyard_schema.errors import MigrationError

# Steps up to this one hold what cannot be computed again: documents, vectors, jobs. Rolling one of them
# back is refused while its tables have rows.
BASE = 5

_TABLE = re.compile(r"^\s*(?:CREATE|ALTER) TABLE (?:docyard\.)?(\w+)", re.MULTILINE)
_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<direction>up|down)\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered change of the schema, with the way back."""

    number: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """sha256 of the way up, in hex: an applied step whose file was edited is found by it."""
        return hashlib.sha256(self.up.encode()).hexdigest()

    @property
    def filename(self) -> str:
        """The name of the file of the way up."""
        return f"{self.number:04}_{self.name}.up.sql"

    @property
    def tables(self) -> frozenset[str]:
        """The tables that the way up makes or adds to, and the way down therefore takes from."""
        return frozenset(_TABLE.findall(self.up))

    @property
    def is_base(self) -> bool:
        """Whether its tables hold what cannot be computed again."""
        return self.number <= BASE


@cache
def load_steps() -> tuple[Step, ...]:
    """All steps in order, numbered 1, 2, 3, … without a gap, each with both directions."""
    found: dict[int, dict[str, str]] = {}
    for file in files("docyard_schema.migrations").joinpath("steps").iterdir():
        if match := _FILE.fullmatch(file.name):
            step = found.setdefault(int(match["number"]), {"name": match["name"]})
            if step["name"] != match["name"] or match["direction"] in step:
                raise MigrationError(f"Two schema steps have the number {match['number']}.")
            step[match["direction"]] = file.read_text(encoding="utf-8")
    steps = []
    for expected, number in enumerate(sorted(found), start=1):
        step = found[number]
        if number != expected or "up" not in step or "down" not in step:
            raise MigrationError(
                f"Schema step {expected:04} is incomplete: an .up.sql and a .down.sql file are expected.",
                hint="Install docyard again; files are missing from the package.",
            )
        steps.append(Step(number=number, name=step["name"], up=step["up"], down=step["down"]))
    return tuple(steps)
