"""One call of a batch handler: attempts go in, an outcome for each comes out, whatever the handler does."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from docyard_queue.attempt_batch import AttemptBatch
from docyard_queue.errors import LeaseLost, PermanentError
from docyard_queue.outcomes import Cancel, Done, Failure, Outcome, Snooze
from docyard_workers.process.classification import Described, classify
from docyard_workers.process.execution import read_payload, too_long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docyard_queue.attempt import Attempt
    from docyard_queue.registry import HandlerSpec
    from docyard_workers.process.threads import Threads

# Text is the reason why the attempt does not count; None: a commit or a lost lease has ended it already.
Ending: TypeAlias = Outcome | str | None


class BatchCall:
    """Attempts that one call of a handler runs; ``ended`` is told of each once, in the loop's thread.

    ``late_error`` is what the handler raised when no attempt was left for it to fail.
    """

    def __init__(
        self, spec: HandlerSpec, attempts: Sequence[Attempt], ended: Callable[[Attempt, Ending], None]
    ) -> None:
        self.attempts = attempts
        self.late_error: BaseException | None = None
        self._spec = spec
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        # Sync handlers settle and commit in threads of their own.
        self._lock = threading.Lock()
        self._task: asyncio.Task[Any] | None = None
        for attempt in attempts:
            attempt.tell(lambda attempt: self.end(attempt, None))

    def end(self, attempt: Attempt, ending: Ending) -> None:
        """End one attempt, unless it has ended already."""
        with self._lock:
            if attempt.ended:
                return
            attempt.ended = True
        if threading.get_ident() == self._loop_thread:
            self._ended(attempt, ending)
        else:
            self._loop.call_soon_threadsafe(self._ended, attempt, ending)

    def end_from_outside(self, attempt: Attempt, ending: Ending) -> None:
        """End one attempt that the handler still runs; when it was the last one, the handler is cancelled."""
        if attempt.ended:
            return
        self.end(attempt, ending)
        if self._task is not None and not self.left:
            self._task.cancel()

    @property
    def left(self) -> list[Attempt]:
        """The attempts that have not ended."""
        return [attempt for attempt in self.attempts if not attempt.ended]

    def end_rest(self, ending: Ending) -> None:
        """End all that have not ended."""
        for attempt in self.left:
            self.end(attempt, ending)

    async def run(self, threads: Threads, *, timed: bool = True) -> None:
        """Call the handler; without ``timed`` somebody else looks at how long the call takes.

        Raises only cancellation of the task that runs it, which leaves attempts as they are, and what ends
        the whole process.
        """
        members, payloads = self._readable()
        if not members:
            return
        batch = AttemptBatch(members, self._settle)
        self._task = asyncio.current_task()
        timers = self._timers(members)
        try:
            returned = await self._call(batch, payloads, threads, timed=timed)
        except GeneratorExit:
            raise
        except LeaseLost as error:
            self._lost(error)
        except KeyboardInterrupt as error:
            # As in execution.py, also the next one.
            if self._spec.is_async:
                raise
            self._fail(error)
        except asyncio.CancelledError as error:
            if self._task is None or self._task.cancelling():
                raise
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: a handler does not end the worker
            self._fail(error)
        else:
            self.end_rest(_outcome(returned))
        finally:
            self._task = None
            for timer in timers:
                timer.cancel()

    def _readable(self) -> tuple[list[Attempt], list[Any]]:
        members, payloads = [], []
        for attempt in self.attempts:
            if attempt.ended:
                continue
            try:
                payloads.append(read_payload(self._spec, attempt.job))
                members.append(attempt)
            except PermanentError as error:
                self.end(attempt, classify(self._spec, attempt.job, error))
        return members, payloads

    async def _call(self, batch: AttemptBatch, payloads: list[Any], threads: Threads, *, timed: bool) -> Any:
        if self._spec.timeout is None or not timed:
            return await self._run(batch, payloads, threads)
        seconds = self._spec.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._run(batch, payloads, threads)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise too_long(self._spec, seconds) from error

    async def _run(self, batch: AttemptBatch, payloads: list[Any], threads: Threads) -> Any:
        if self._spec.is_async:
            return await self._spec.run(batch, payloads)
        returned = await threads.call(self._spec.run, batch, payloads)
        return await returned if inspect.isawaitable(returned) else returned

    def _timers(self, members: Sequence[Attempt]) -> list[asyncio.TimerHandle]:
        return [
            self._loop.call_later(attempt.job.timeout_seconds, self._overdue, attempt)
            for attempt in members
            if attempt.job.timeout_seconds is not None
        ]

    def _overdue(self, attempt: Attempt) -> None:
        error = too_long(self._spec, attempt.job.timeout_seconds or 0)
        self.end_from_outside(attempt, classify(self._spec, attempt.job, error))

    def _settle(self, attempt: Attempt, said: Any) -> None:
        if isinstance(said, LeaseLost):
            attempt.end_lost()
        elif isinstance(said, BaseException):
            self.end(attempt, classify(self._spec, attempt.job, said))
        else:
            self.end(attempt, _outcome(said))

    def _fail(self, error: BaseException) -> None:
        if not self.left:
            self.late_error = error
            return
        # The traceback is written once, however many attempts it ends.
        described = Described.of(self._spec, error)
        for attempt in self.left:
            self.end(attempt, classify(self._spec, attempt.job, error, described))

    def _lost(self, error: LeaseLost) -> None:
        """One attempt's own commit has found its lease lost: it is no fault of the others."""
        for attempt in self.attempts:
            if (attempt.job.id, attempt.job.lease) == (error.job_id, error.lease):
                attempt.end_lost()
        self.end_rest("another job of its batch had lost its lease")


def _outcome(returned: Any) -> Outcome:
    return returned if isinstance(returned, (Done, Snooze, Cancel, Failure)) else Done(returned)
