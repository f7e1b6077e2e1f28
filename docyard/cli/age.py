"""A span of time as a person writes it: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6}(?:\.\d+)?) *([smhdw])", re.ASCII)


def read_age(text: str) -> timedelta:
    """The span that ``text`` says; raises typer's ``BadParameter`` when it says none."""
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"expected a number and s, m, h, d or w, such as 12h or 7d; got {text!r}")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})
