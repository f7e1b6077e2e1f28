"""``docyard queues limit``, and the words for limits that people type."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.age import read_age
from docyard.cli.command import command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from docyard_queue.limits import Limits, Rate

_RATE = re.compile(r"(\d{1,12}(?:\.\d+)?) */ *(.+)", re.ASCII)

_LONG = {"d": 86400, "h": 3600, "m": 60}
_NONE = "none"


def read_rate(text: str) -> Rate:
    """The rate that ``100/1m`` says. Raises :class:`InvalidInput` when it says none."""
    from docyard_queue.limits import Rate
    from docyard_schema.errors import InvalidInput

    found = _RATE.fullmatch(text.strip())
    try:
        if found is not None:
            return Rate(float(found[1]), read_age(found[2] if found[2][0].isdigit() else f"1{found[2]}"))
    except typer.BadParameter:
        pass
    raise InvalidInput(f"A rate is an amount and a time, such as 100/1m or 10/1s; got {text!r}.")


def told_rate(rate: Rate | None) -> str | None:
    """A rate as :func:`read_rate` reads it."""
    if rate is None:
        return None
    seconds = rate.per.total_seconds()
    whole = next(((unit, long) for unit, long in _LONG.items() if seconds % long == 0), ("s", 1))
    return f"{rate.amount:g}/{seconds / whole[1]:g}{whole[0]}"


@command
async def limit_queue(
    invocation: Invocation,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The queue; it may be one nobody has used yet.")
    ],
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N", help="So many of its jobs run at once, on all workers together."),
    ] = None,
    per_key: Annotated[
        str | None, typer.Option(metavar="N", help="So many of one partition key run at once.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="So much weight begins in a while: 100/1m.")
    ] = None,
    rate_per_key: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="The same for each partition key: 10/1s.")
    ] = None,
    depth: Annotated[
        str | None, typer.Option(metavar="N", help="When so many jobs wait, an enqueue is refused.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all limits first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Limit how many of a queue's jobs run at once, begin in a while, and wait; or show its limits.

    What is not named stays as it is; "none" removes one limit. Jobs that run already go on and count.
    """
    from docyard_queue.limits import Limits, limits_of, set_limits

    wanted: dict[str, Any] = {
        "concurrency": _number(concurrency, "--concurrency"),
        "key_concurrency": _number(per_key, "--per-key"),
        "rate": _rate(rate),
        "key_rate": _rate(rate_per_key),
        "max_depth": _number(depth, "--depth"),
    }
    changes = {field: value for field, value in wanted.items() if value is not ...}
    async with invocation.database() as database, database.transaction() as connection:
        limits = Limits() if none else await limits_of(database, name, connection=connection)
        if changes or none:
            limits = dataclasses.replace(limits, **changes)
            await set_limits(database, name, limits, connection=connection)
    if as_json:
        invocation.output.json({"queue": name} | dataclasses.asdict(limits))
        return
    told = told_limits(limits)
    invocation.output.line(f"Queue {name}: {', '.join(told)}." if told else f"Queue {name} has no limits.")


def told_limits(limits: Limits) -> list[str]:
    """Each limit in a few words."""
    words = {
        "at once": limits.concurrency,
        "of a key at once": limits.key_concurrency,
        "rate": told_rate(limits.rate),
        "rate of a key": told_rate(limits.key_rate),
        "may wait": limits.max_depth,
    }
    return [
        f"{word} {value}" if "rate" in word else f"{value:,} {word}"
        for word, value in words.items()
        if value is not None
    ]


def _number(text: str | None, option: str) -> Any:
    """The number; None for "none", ``...`` for an option that was not given."""
    if text is None:
        return ...
    if text == _NONE:
        return None
    if not text.isascii() or not text.isdigit():
        from docyard_schema.errors import InvalidInput

        raise InvalidInput(f"{option} is a whole number or none, got {text!r}.")
    return int(text)


def _rate(text: str | None) -> Any:
    if text is None:
        return ...
    return None if text == _NONE else read_rate(text)
