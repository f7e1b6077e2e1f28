"""Lets one attempt have the worker process for itself, so that nobody else is blamed for its end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Solitude:
    """``wanted`` while an attempt has, or waits for, the process for itself; then nothing else begins.

    ``running`` says how many attempts were begun and have not ended, those that wait here included. One that
    runs long keeps all who wait here waiting: its own time limit is what bounds that.
    """

    def __init__(self, running: Callable[[], int]) -> None:
        self.wanted = False
        self._running = running
        self._waiting = 0
        self._wanting = 0
        self._turn = asyncio.Lock()
        self._ended = asyncio.Event()
        self._over = asyncio.Event()

    def handler_ended(self) -> None:
        """To be called for every attempt that ends while somebody wants to be alone."""
        self._ended.set()

    async def over(self) -> None:
        """Wait until nobody wants to be alone."""
        self._waiting += 1
        self._ended.set()
        try:
            while self.wanted:
                await self._over.wait()
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """A block in which no other attempt of this process runs."""
        self.wanted = True
        self._over.clear()
        self._wanting += 1
        self._waiting += 1
        self._ended.set()
        try:
            async with self._turn:
                while self._running() > self._waiting:
                    self._ended.clear()
                    await self._ended.wait()
                yield
        finally:
            self._waiting -= 1
            self._wanting -= 1
            if not self._wanting:
                self.wanted = False
                self._over.set()
