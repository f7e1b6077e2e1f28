"""Limits of a queue: how many of its jobs run at once, begin in a while, and wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from docyard_queue.queues import require_queue_name, wake
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "limits.sql")

_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Rate:
    """So much ``amount`` (jobs, or their weights) in the time ``per``.

    It flows in evenly, and what is not used is kept up to one ``amount``: after a rest that much may begin
    at once.
    """

    amount: float
    per: timedelta

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf or self.per <= timedelta(0):
            raise InvalidInput(
                "A rate is an amount above zero in a time longer than zero, "
                f"got {self.amount:g} in {self.per}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a queue's jobs may do over the whole fleet; None is no limit.

    ``concurrency`` of them run at once (0: none), ``key_concurrency`` of one partition key; ``rate`` and
    ``key_rate`` say how much weight begins in a while; an enqueue that would make more than ``max_depth``
    jobs wait is refused with :class:`QueueFull`.
    """

    concurrency: int | None = None
    key_concurrency: int | None = None
    rate: Rate | None = None
    key_rate: Rate | None = None
    max_depth: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 0), ("key_concurrency", 1), ("max_depth", 1)):
            number = getattr(self, name)
            if number is not None and not least <= number <= _MOST:
                raise InvalidInput(f"A queue's {name} is at least {least}, got {number}.")


async def limits_of(database: Database, queue: str, *, connection: Connection | None = None) -> Limits:
    """The limits of a queue; without any for one that nobody has limited."""
    async with database.connection(connection) as opened:
        cursor = await opened.execute(
            database.sql(_statements.limits_of), {"name": require_queue_name(queue)}
        )
        row = await cursor.fetchone()
    if row is None:
        return Limits()
    concurrency, key_concurrency, rate, rate_seconds, key_rate, key_rate_seconds, max_depth = row
    return Limits(
        concurrency=concurrency,
        key_concurrency=key_concurrency,
        rate=_rate(rate, rate_seconds),
        key_rate=_rate(key_rate, key_rate_seconds),
        max_depth=max_depth,
    )


async def set_limits(
    database: Database, queue: str, limits: Limits, *, connection: Connection | None = None
) -> None:
    """Give a queue these limits instead of those it had; ``Limits()`` is none.

    Jobs that run already go on and count. A claim that is under way in this very moment may still go by the
    limits of before.
    """
    values = {
        "name": require_queue_name(queue),
        "concurrency": limits.concurrency,
        "key_concurrency": limits.key_concurrency,
        "rate": limits.rate and limits.rate.amount,
        "rate_seconds": limits.rate and limits.rate.per.total_seconds(),
        "key_rate": limits.key_rate and limits.key_rate.amount,
        "key_rate_seconds": limits.key_rate and limits.key_rate.per.total_seconds(),
        "max_depth": limits.max_depth,
    }
    async with database.transaction(connection) as opened:
        await opened.execute(database.sql(_statements.set_limits), values)
        await opened.execute(database.sql(_statements.count_running), values)
        await wake(database, opened, queue)


def _rate(amount: float | None, seconds: float | None) -> Rate | None:
    return None if amount is None or seconds is None else Rate(amount, timedelta(seconds=seconds))
