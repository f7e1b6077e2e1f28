"""Waits for something to become true instead of sleeping for as long as it might take."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def eventually(condition: Callable[[], Any], *, seconds: float = 10, what: str = "") -> Any:
    """Call ``condition`` (sync or async) until it gives something true; returns that.

    Fails after ``seconds``, saying what it waited for and the last value.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what or condition}; last value: {value!r}")
        await asyncio.sleep(0.02)
