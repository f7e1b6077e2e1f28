"""Runs sync handlers: each in a thread of its own, that a process which ends does not wait for.

An executor's threads are waited for at the interpreter's exit, so one handler that hangs would keep a
stopped worker from ending; and its queue would count as running what only waits for a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """Calls of sync functions. ``overrunning`` of them outlived the attempt that they belonged to.

    A thread cannot be stopped: after a time limit or a cancel it goes on, its job already settled, and
    ``on_end`` is called when it has ended.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.overrunning = 0
        self._on_end = on_end

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` gives, called in a thread with the caller's context variables."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        context = contextvars.copy_context()

        def run() -> None:
            result, error = None, None
            try:
                result = context.run(function, *arguments)
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever awaits
                error = raised
            try:
                loop.call_soon_threadsafe(self._tell, ended, result, error)
            except RuntimeError:
                return  # The loop is closed: nobody waits any more.

        threading.Thread(target=run, name="docyard-handler", daemon=True).start()
        try:
            result, error = await ended
        except asyncio.CancelledError:
            if ended.cancelled():
                self.overrunning += 1
            raise
        if error is not None:
            raise error
        return result

    def _tell(
        self,
        ended: asyncio.Future[tuple[Any, BaseException | None]],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if ended.cancelled():
            self.overrunning -= 1
            self._on_end()
        else:
            ended.set_result((result, error))
