"""What vectors cost: reserved before a request, settled after it, kept by day, model and collection.

Days are of UTC, costs in US dollars.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime  # noqa: TC003 - a row's fields
from decimal import Decimal  # noqa: TC003 - a row's field
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docyard_schema.database import Database

_statements = load_statements("docyard_schema.embeddings", "spend.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """A row of the view ``docyard.spend``; ``cost`` of None: no request of it had a known price."""

    day: date
    model: str
    collection: str
    requests: int
    tokens: int
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpend:
    """What today has cost so far. ``reserved`` is of requests under way, None without a ceiling.

    ``ceiling`` is the one that a request of today was last held against, None: none was; ``reached_at``: when
    one was refused because of it.
    """

    day: date
    requests: int
    tokens: int
    cost: Decimal | None
    reserved: Decimal | None
    ceiling: Decimal | None
    reached_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendVerdict:
    """Whether a request may go. ``cause`` is None when all was taken.

    Else nothing was, ``wait_s`` seconds are to be waited, and it is ``cool_down``, ``budget``, ``ceiling``
    (until midnight) or ``under_way`` (the ceiling leaves enough if others do not use what they reserved).
    ``units`` are those that have a budget; ``hold`` and ``spent`` (of today) are None without a ceiling.
    """

    cause: str | None
    wait_s: float | None
    reason: str | None
    units: Sequence[str]
    today: date
    hold: int | None
    spent: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendPart:
    """A collection's part of what a request took."""

    collection: str
    requests: int
    tokens: int
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a request took. ``returned`` goes back to the account's budget, by unit; negative is taken."""

    account: str
    model: str
    day: date
    hold: int | None
    returned: Mapping[str, float] = field(default_factory=dict)
    parts: Sequence[SpendPart] = ()


async def reserve_spend(
    database: Database,
    account: str,
    amounts: Mapping[str, float],
    *,
    cost: Decimal | None,
    ceiling: Decimal | None,
) -> SpendVerdict:
    """Take these amounts of the account's budget and of the day's ceiling (None: no ceiling), all or none."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(SpendVerdict)
        await cursor.execute(
            database.sql(_statements.reserve),
            {
                "account": account,
                "units": [*amounts],
                "amounts": [float(amount) for amount in amounts.values()],
                "cost": cost,
                "ceiling": ceiling,
            },
        )
        verdict: SpendVerdict = (await cursor.fetchall())[0]
    return verdict


async def settle_spend(database: Database, settlement: Settlement) -> None:
    """Write down what was spent, and end the reservation. Do it once."""
    parts = settlement.parts
    async with database.connection() as connection:
        await connection.execute(
            database.sql(_statements.settle),
            {
                "account": settlement.account,
                "model": settlement.model,
                "day": settlement.day,
                "hold": settlement.hold,
                "units": [*settlement.returned],
                "amounts": [float(amount) for amount in settlement.returned.values()],
                "collections": [part.collection for part in parts],
                "requests": [part.requests for part in parts],
                "tokens": [part.tokens for part in parts],
                "costs": [part.cost for part in parts],
            },
        )


async def list_spend(database: Database, *, days: int = 1) -> list[SpendRow]:
    """What the last ``days`` cost, today included, by day (the newest first), model and collection."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(SpendRow)
        await cursor.execute(database.sql(_statements.list_spend), {"days": days})
        return await cursor.fetchall()


async def spend_today(database: Database) -> DaySpend:
    """What today has cost so far, and the ceiling of it."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(DaySpend)
        await cursor.execute(database.sql(_statements.today))
        found: DaySpend = (await cursor.fetchall())[0]
    return found


def dollars(amount: Decimal | None) -> str:
    """For people: ``$12.50``, ``$0.0213``, ``$0.000021``; ``unknown`` for None."""
    if amount is None:
        return "unknown"
    if not amount or abs(amount) >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.{min(max(4, 1 - amount.adjusted()), 10)}f}"
