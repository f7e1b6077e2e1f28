"""What one check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """``ok``; ``warning``: it works, but look; ``problem``: jobs wait, are lost, or soon will be."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line of the report: which check, how bad, what was seen, what to do (empty when nothing is)."""

    check: str
    level: Level
    finding: str
    advice: str = ""


def ok(check: str, finding: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, level=Level.OK, finding=finding)


def warning(check: str, finding: str, advice: str) -> Finding:
    """Worth a look."""
    return Finding(check=check, level=Level.WARNING, finding=finding, advice=advice)


def problem(check: str, finding: str, advice: str) -> Finding:
    """To be mended."""
    return Finding(check=check, level=Level.PROBLEM, finding=finding, advice=advice)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 days``."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def counted(number: int, noun: str) -> str:
    """``1 job``, ``1,083 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
