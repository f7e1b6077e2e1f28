"""Ends an attempt as if its process had been killed, at a point that the test names."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from typing_extensions import override

from docyard_queue import Attempt
from docyard_schema import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    import psycopg

    from docyard_queue import Job

CrashPoint: TypeAlias = Literal["claimed", "in_handler", "in_commit", "after_commit", "before_finish"]


class ProcessKilled(asyncio.CancelledError):
    """Raised inside the handler in place of the end of its process: what it waits for is given up at once."""


class Crash:
    """A crash of one attempt, made by :func:`crash_at`; ``happened`` says whether it did."""

    def __init__(self, point: CrashPoint, kind: str | None, wait: int | None) -> None:
        self.point = point
        self.kind = kind
        self.wait = wait
        self.happened = False

    def is_for(self, job: Job) -> bool:
        """Whether this job's attempt is the one to end."""
        return not self.happened and self.kind in (None, job.kind)

    def reach(self, point: CrashPoint) -> None:
        """Raise :class:`ProcessKilled` if this is the point, or it was before: who is dead stays dead."""
        if self.happened or self.point == point:
            self.happened = True
            raise ProcessKilled


def crash_at(point: CrashPoint, kind: str | None = None, *, wait: int | None = None) -> Crash:
    """A crash for :func:`drain` or :func:`perform`: once, in the next attempt of ``kind`` (None: of any).

    - ``claimed``: the job was claimed, its handler has not begun.
    - ``in_handler``: an async handler ends where it first waits for anything, or for the ``wait``-th time,
      also inside docyard's own calls; a sync one where it first commits. One that does neither: at its end.
    - ``in_commit``: the block of ``attempt.commit()`` has written all, its transaction is not committed.
    - ``after_commit``: it is committed, what the handler does after it is not done.
    - ``before_finish``: the handler has returned, its outcome is not written.

    The lease stays, no outcome is written, the worker is gone, so rescue takes the job. Unlike in a process
    that is killed, ``finally`` blocks run. With ``wait`` the crash does not happen when the handler ends
    before: so a test can try 1, 2, 3, … until ``happened`` is False. Raises :class:`InvalidInput`.
    """
    if point not in get_args(CrashPoint):
        raise InvalidInput(
            f"A crash cannot be at {point!r}.", hint=f"Expected one of: {', '.join(get_args(CrashPoint))}."
        )
    if wait is not None and (point != "in_handler" or wait < 1):
        raise InvalidInput(
            f"wait counts from 1 and goes with 'in_handler', got {wait} at {point!r}.",
            hint="crash_at('in_handler', wait=3) ends the handler at its third wait.",
        )
    return Crash(point, kind, wait)


class WatchedAttempt(Attempt):
    """An attempt that remembers the result that was committed, and may be cut off by a crash."""

    result: Any = None
    crash: Crash | None = None

    @override
    @contextmanager
    def commit_sync(self, result: Any = None) -> Iterator[psycopg.Connection[Any]]:
        self._still_alive()
        if self.crash is not None and self.crash.wait is None:
            self._reach("in_handler")
        with super().commit_sync(result) as connection:
            yield connection

    @override
    @contextmanager
    def only_once(self) -> Iterator[None]:
        self._still_alive()
        with super().only_once():
            yield

    @override
    def about_to_commit(self) -> None:
        self._reach("in_commit")

    @override
    def end_committed(self, result: Any) -> None:
        super().end_committed(result)
        self.result = result
        self._reach("after_commit")

    def _still_alive(self) -> None:
        if self.crash is not None and self.crash.happened:
            raise ProcessKilled

    def _reach(self, point: CrashPoint) -> None:
        if self.crash is not None:
            self.crash.reach(point)


def cut_off(run: Callable[..., Awaitable[Any]], crash: Crash) -> Callable[[Any, Any], Awaitable[Any]]:
    """An async handler that is ended at one of its waits."""

    async def handler(attempt: Any, payload: Any) -> Any:
        return await _CutOff(run(attempt, payload), crash)

    return handler


class _CutOff:
    """Awaits something step by step, and throws :class:`ProcessKilled` into one of its waits."""

    def __init__(self, awaited: Awaitable[Any], crash: Crash) -> None:
        self._awaited = awaited
        self._crash = crash

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaited.__await__()
        waits = 0
        try:
            waited_for = steps.send(None)
            while True:
                waits += 1
                if waits == (self._crash.wait or 1):
                    # What it waited for is dropped; what it waits for while it cleans up is waited for.
                    self._crash.happened = True
                    waited_for = steps.throw(ProcessKilled())
                    continue
                try:
                    answer = yield waited_for
                except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
                    waited_for = steps.throw(error)
                else:
                    waited_for = steps.send(answer)
        except StopIteration as stop:
            return stop.value
