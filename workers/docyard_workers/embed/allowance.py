"""What requests may be sent: by cool-downs, budgets, and the day's ceiling, over the whole fleet.

Reserve before a request, then settle it or give it back. One allowance belongs to a provider and a process;
those of one account know of each other's cool-downs at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from docyard_queue import RateLimited
from docyard_queue.budgets import cool_down
from docyard_schema.embeddings.spend import (
    Settlement,
    SpendVerdict,
    dollars,
    reserve_spend,
    settle_spend,
)
from docyard_schema.errors import ConfigError
from docyard_workers.embed.shares import split

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import date
    from decimal import Decimal

    from docyard_schema import Database
    from docyard_workers.embed.providers import EmbeddingProvider

_MILLION = 1_000_000
_SETTING = "DOCYARD_EMBEDDING_DAILY_CEILING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What was taken for one request; ``cost`` of None: its price is unknown.

    ``amounts`` is what the account's budgets gave, by unit. ``day`` is the one that it is spent on, of UTC,
    also when the answer comes after midnight.
    """

    tokens: int
    cost: Decimal | None
    amounts: Mapping[str, float]
    day: date
    hold: int | None


class _Patience:
    """Until when this process knows that an account is to be left alone."""

    def __init__(self) -> None:
        self._until = 0.0
        self.reason = ""

    @property
    def left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def wait(self, seconds: float, reason: str) -> None:
        until = time.monotonic() + seconds
        if until > self._until:
            self._until, self.reason = until, reason


# By account: the models of a migration, old and new, are mostly asked under one.
_known: WeakKeyDictionary[Database, dict[str, _Patience]] = WeakKeyDictionary()


class Allowance:
    """Asks the fleet's budgets before every request of a provider, and writes down what was spent."""

    def __init__(
        self, database: Database, provider: EmbeddingProvider, *, daily_ceiling: Decimal | None = None
    ) -> None:
        """``daily_ceiling`` is in US dollars, of all models together; None: no ceiling.

        Raises :class:`ConfigError` for a ceiling on what has no known price.
        """
        require_price(provider, daily_ceiling)
        self._database = database
        self._provider = provider
        self._ceiling = daily_ceiling
        self._patience = _known.setdefault(database, {}).setdefault(provider.account, _Patience())

    @property
    def cooling(self) -> float:
        """Seconds for which nothing is to be sent, as far as this process knows; asks nobody."""
        return self._patience.left

    def cost_of(self, tokens: int) -> Decimal | None:
        """What so many tokens cost in US dollars; None when the price is unknown."""
        price = self._provider.limits.price_per_million_tokens
        return None if price is None else price * tokens / _MILLION

    async def reserve(self, tokens: int) -> Reserved:
        """Take one request of so many tokens, by the provider's estimate: in one round trip.

        Raises :class:`RateLimited`, with how long to wait, during a cool-down, when a budget has not enough,
        and until midnight UTC when the request would pass the day's ceiling; then nothing was taken.
        """
        self._refuse_while_cooling()
        cost = self.cost_of(tokens)
        amounts: dict[str, float] = {"requests": 1, "tokens": tokens}
        if cost:
            amounts["money"] = float(cost)
        account = self._provider.account
        verdict = await reserve_spend(self._database, account, amounts, cost=cost, ceiling=self._ceiling)
        if verdict.cause is not None:
            raise self._refusal(verdict, amounts, cost)
        reserved = Reserved(
            tokens=tokens,
            cost=cost,
            amounts={unit: amounts[unit] for unit in verdict.units},
            day=verdict.today,
            hold=verdict.hold,
        )
        if self.cooling:  # another request of this process was told meanwhile
            await self.give_back(reserved)
            self._refuse_while_cooling()
        return reserved

    async def settle(self, reserved: Reserved, *, tokens: int, shares: Mapping[str, float]) -> None:
        """Write down a request that was answered: the tokens that it took, by collection. Do it once.

        ``shares`` are the collections' parts of the request, of any sum. The tokens and the money are divided
        by them; the request itself counts for the largest. It is spent whatever becomes of the vectors.
        """
        used: dict[str, float] = {"requests": 1, "tokens": tokens, "money": float(self.cost_of(tokens) or 0)}
        returned = {unit: amount - used[unit] for unit, amount in reserved.amounts.items()}
        await self._end(
            reserved,
            {unit: amount for unit, amount in returned.items() if amount},
            split(shares, tokens, self.cost_of),
        )

    async def give_back(self, reserved: Reserved) -> None:
        """Take back a request that was not sent or cost nothing: a 429, no connection."""
        if reserved.amounts or reserved.hold is not None:
            await self._end(reserved, reserved.amounts, [])

    def cool_down(self, delay: timedelta, reason: str) -> Coroutine[Any, Any, None]:
        """Nobody of the fleet sends to this account for so long; of two cool-downs the longer one holds.

        This process knows when the call returns; await what it returns to tell the others.
        """
        self._patience.wait(delay.total_seconds(), reason)
        return cool_down(self._database, self._provider.account, delay, reason=reason)

    async def _end(self, reserved: Reserved, returned: Mapping[str, float], parts: Any) -> None:
        await settle_spend(
            self._database,
            Settlement(
                account=self._provider.account,
                model=self._provider.model.name,
                day=reserved.day,
                hold=reserved.hold,
                returned=returned,
                parts=parts,
            ),
        )

    def _refuse_while_cooling(self) -> None:
        if left := self.cooling:
            raise RateLimited(
                _told_cooling(self._provider.account, left, self._patience.reason),
                retry_after=timedelta(seconds=left),
                operation="reserve",
            )

    def _refusal(
        self, verdict: SpendVerdict, amounts: Mapping[str, float], cost: Decimal | None
    ) -> RateLimited:
        wait, account = verdict.wait_s or 0.0, self._provider.account
        hint = "The job waits for it by itself, and no attempt is counted."
        if verdict.cause == "cool_down":
            self._patience.wait(wait, verdict.reason or "")
            message = _told_cooling(account, wait, verdict.reason or "")
        elif verdict.cause == "budget":
            known = ", ".join(f"{amounts[unit]:g} {unit}" for unit in verdict.units)
            message = f"The budget {account} has not enough for {known}: it will in {wait:.1f} s."
            hint += " Raise it with: docyard budgets set"
        else:
            message = (
                f"The daily ceiling of {dollars(self._ceiling)} leaves no room: {dollars(verdict.spent)} are "
                f"spent today, and this request costs about {dollars(cost)}."
            )
            if verdict.cause == "ceiling":
                message += " Embedding goes on at midnight UTC."
                hint += f" Or raise {_SETTING} and start the workers again."
            else:
                message += f" Requests under way may leave some: tried again in {wait:.0f} s."
        return RateLimited(message, retry_after=timedelta(seconds=wait), hint=hint, operation="reserve")


def require_price(provider: EmbeddingProvider, daily_ceiling: Decimal | None) -> None:
    """Raise :class:`ConfigError` for a ceiling on a provider whose price nobody knows."""
    if daily_ceiling is not None and provider.limits.price_per_million_tokens is None:
        raise ConfigError(
            f"A daily ceiling of {dollars(daily_ceiling)} needs a price, and that of {provider.account} is "
            "unknown.",
            hint="Set DOCYARD_EMBEDDING_PRICE_PER_MILLION_TOKENS (0 for a server that costs nothing), or "
            f"leave {_SETTING} out.",
            operation="embed",
        )


def _told_cooling(account: str, seconds: float, reason: str) -> str:
    return f"{account} is cooling down for {seconds:.1f} s{f': {reason}' if reason else ''}."
