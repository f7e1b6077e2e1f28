"""Budgets that the whole fleet shares: reserve before the work, settle after it, cool down when told to.

A budget is a token bucket: its amount flows in evenly over its time, and no more than one amount is ever in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

from docyard_queue.errors import RateLimited
from docyard_queue.kept_text import MAXIMUM_MESSAGE, clean
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_queue.limits import Rate
    from docyard_schema.database import Database

_statements = load_statements("docyard_queue", "budgets.sql")

_MAXIMUM_NAME_BYTES = 1024
_LONGEST_SECONDS = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One unit of a budget: ``amount`` per ``window_seconds``, of which ``remaining`` is there now.

    A cool-down without a budget has None in these. ``cool_until`` and ``reason`` are None when nobody asked
    for patience.
    """

    name: str
    unit: str | None
    amount: float | None
    window_seconds: float | None
    remaining: float | None
    cool_until: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was taken from a budget, by unit. Units that have no budget are free and not in it."""

    name: str
    amounts: Mapping[str, float]


async def set_budget(database: Database, name: str, unit: str, rate: Rate) -> None:
    """Allow so much of a ``unit`` (``requests``, ``tokens``, ``money``) in a while, over the whole fleet."""
    values: dict[str, Any] = {
        "name": _own_name(name),
        "unit": unit,
        "amount": rate.amount,
        "window": rate.per.total_seconds(),
    }
    if not 1 <= len(unit.encode()) <= 40:
        raise InvalidInput(f"A budget's unit has 1 to 40 bytes, got {unit!r}.", hint="For example: tokens")
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.set_budget), values)


async def remove_budget(database: Database, name: str, unit: str | None = None) -> list[str]:
    """Forget a budget, or one unit of it; returns the units that it had."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(_statements.remove_budget), {"name": _own_name(name), "unit": unit}
        )
        return [row[0] for row in await cursor.fetchall()]


async def list_budgets(database: Database) -> list[Budget]:
    """All budgets and cool-downs, those of queues and their keys too; by name and unit."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(Budget)
        await cursor.execute(database.sql(_statements.list_budgets))
        return await cursor.fetchall()


async def reserve(database: Database, name: str, **amounts: float) -> Reservation:
    """Take these amounts, all of them or none: ``await reserve(database, "openai", requests=1, tokens=800)``.

    Raises :class:`RateLimited` with the time until they are there, which a handler may simply let through:
    its job waits that long, and the attempt does not count. More than the whole budget is let through when
    the budget is full. Who has reserved says later, by :func:`settle`, what it really was.
    """
    if any(not 0 <= amount < float("inf") for amount in amounts.values()):
        raise InvalidInput(f"Amounts to reserve are numbers from zero on, got {amounts}.")
    name = _own_name(name)
    values = {"name": name, "units": [*amounts], "amounts": [float(amount) for amount in amounts.values()]}
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.reserve), values)
        [(wait, reason, units)] = await cursor.fetchall()
    known = {unit: amounts[unit] for unit in units}
    if reason is not None:
        raise RateLimited(
            f"The budget {name} is cooling down for {wait:.1f} s{f': {reason}' if reason else ''}.",
            retry_after=timedelta(seconds=wait),
            operation="reserve",
        )
    if wait is not None:
        raise RateLimited(
            f"The budget {name} has not enough for {_told(known)}: it will in {wait:.1f} s.",
            retry_after=timedelta(seconds=wait),
            hint="The job waits for it by itself. Raise it with: docyard budgets set",
            operation="reserve",
        )
    return Reservation(name, known)


async def settle(database: Database, reservation: Reservation, **used: float) -> None:
    """Say what was really used; a unit that is not named was used as reserved. Do it once."""
    differences = {
        unit: reserved - used[unit] for unit, reserved in reservation.amounts.items() if unit in used
    }
    await give_back(database, [(reservation.name, unit, amount) for unit, amount in differences.items()])


async def give_back(database: Database, amounts: list[tuple[str, str, float]]) -> None:
    """Put (budget, unit, amount) back; negative amounts are taken."""
    names, units, given = zip(*sorted(amounts), strict=True) if amounts else ((), (), ())
    values = {"names": [*names], "units": [*units], "amounts": [*given]}
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.give_back), values)


async def cool_down(database: Database, name: str, delay: timedelta, *, reason: str = "") -> None:
    """For so long nobody reserves from this budget: what a provider's 429 asks for, told to the fleet."""
    await cool_down_limit(database, _own_name(name), delay, reason)


async def cool_down_limit(database: Database, name: str, delay: timedelta, reason: str) -> None:
    """The same for any name, a queue's or a key's too. Of two cool-downs the longer one holds."""
    values = {
        "name": name,
        "seconds": min(max(delay.total_seconds(), 0.0), _LONGEST_SECONDS),
        "reason": clean(reason, MAXIMUM_MESSAGE) or None,
    }
    async with database.connection() as connection:
        await connection.execute(database.sql(_statements.cool_down), values)


async def limit_name(database: Database, queue: str, key: str | None) -> str:
    """The name under which a queue's rate and cool-down, or those of one of its keys, are kept."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.limit_name), {"queue": queue, "key": key})
        [[name]] = await cursor.fetchall()
    return str(name)


def _own_name(name: str) -> str:
    if not 1 <= len(name.encode(errors="replace")) <= _MAXIMUM_NAME_BYTES or "\x00" in name:
        raise InvalidInput(
            f"A budget's name has 1 to {_MAXIMUM_NAME_BYTES:,} bytes, without NUL, got {name!r}."
        )
    if name.startswith(("queue ", "key ")):
        raise InvalidInput(
            f"Names that begin with 'queue ' and 'key ' are kept for the rates of queues, got {name!r}.",
            hint="Give a queue a rate with: docyard queues limit NAME --rate 100/1m",
        )
    return name


def _told(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {unit}" for unit, amount in amounts.items())
