"""Ctrl-C and SIGTERM: the first asks nicely, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

_Result = TypeVar("_Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal ended the command before it was done; its exit code is 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stopping:
    """Turns signals into a stop: of whatever :meth:`gracefully` names, else of the command's own task."""

    def __init__(self) -> None:
        self.signal: int | None = None
        # For commands that run until they are stopped: a signal is their good end, at whatever point.
        self.is_the_end = False
        self._stop: Callable[[], Any] | None = None

    @contextmanager
    def gracefully(self, stop: Callable[[], Any]) -> Iterator[None]:
        """Inside, a signal calls ``stop`` and the block is expected to end soon, and well."""
        self._stop = stop
        if self.signal is not None:
            stop()
        try:
            yield
        finally:
            self._stop = None

    def raise_if_stopped(self) -> None:
        """Raise :class:`Interrupted` when a signal came."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    async def run(self, command: Coroutine[Any, Any, _Result]) -> _Result | None:
        """Run a command under these rules; None when a signal was its good end."""
        import asyncio

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one

        def received(number: int) -> None:
            if self.signal is not None:
                force(number)
            self.signal = number
            if self._stop is not None:
                self._stop()
            else:
                task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, received, number)
        try:
            return await command
        except asyncio.CancelledError:
            if self.is_the_end and self.signal is not None:
                return None
            self.raise_if_stopped()
            raise
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)


def force(number: int) -> None:
    """End this process now. Its jobs are taken over by the next worker, as after a crash."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
    sys.stderr.write("\nEnded without waiting; running jobs are taken over by the next worker.\n")
    sys.stderr.flush()
    os._exit(128 + number)
