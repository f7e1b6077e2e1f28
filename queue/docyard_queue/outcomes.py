"""What a handler may return, and what becomes of an attempt.

Returning None or anything that is not an outcome means done; raising means failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta  # noqa: TC003
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Done:
    """Finished; ``result`` is kept as JSON in the job's row.

    Of one that is not JSON, or larger than 1 MiB, only the beginning of its ``repr`` is kept: by then the
    work is done, and a finish must not fail.
    """

    result: Any = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not yet: run again after ``delay``. The attempt does not count; ``reason`` is kept with it."""

    delay: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Never: the job is no longer wanted, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that raised. ``retry_in`` of None means: no more attempts, a dead letter.

    ``crashed``: it raised nothing, it took its process with it.
    """

    code: str
    error_class: str
    message: str
    traceback: str
    retry_in: timedelta | None
    crashed: bool = False


Outcome: TypeAlias = Done | Snooze | Cancel | Failure
