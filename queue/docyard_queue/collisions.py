"""Trying a transaction again that met another one, so that Postgres ended it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Result = TypeVar("_Result")

# Two transactions met, and the database asks one of them to try again.
_MET = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_TRIES = 10


async def until_it_passes(transaction: Callable[[], Awaitable[_Result]]) -> _Result:
    """What ``transaction`` returns, tried up to ten times while it deadlocks or cannot be serialized.

    It is a whole transaction: nothing of a try that failed remains. Raises what the last try raised.
    """
    for attempt in range(1, _TRIES):
        try:
            return await transaction()
        except _MET:
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter
    return await transaction()


async def until_keys_fit(transaction: Callable[[bool], Awaitable[_Result]]) -> _Result:
    """:func:`until_it_passes` for what makes jobs wait again: called with whether to give unique keys up.

    At first it is not. When another job began to wait under one of the keys after the transaction's look, it
    is done once more without the keys.
    """
    try:
        return await until_it_passes(lambda: transaction(False))
    except psycopg.errors.UniqueViolation:
        return await until_it_passes(lambda: transaction(True))
