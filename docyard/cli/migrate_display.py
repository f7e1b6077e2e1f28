"""How far a reembed is: a bar of chunks on a terminal, a structured line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from docyard.batch import KindProgress
from docyard.cli.progress import Bars
from docyard_queue.outage import OUTAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from docyard.cli.output import Output
    from docyard.reembedding import Reembedding
    from docyard_workers.migrate.standing import Standing

_log = structlog.get_logger("docyard.cli")

_SECONDS_BETWEEN_LINES = 5.0
_LABELS = {
    "indexing": "Indexing",
    "verifying": "Verifying",
    "waiting": "Waiting",
    "activating": "Activating",
}


@asynccontextmanager
async def following(begun: Reembedding, output: Output) -> AsyncIterator[asyncio.Task[Standing | None]]:
    """Show how far it is while the block runs; gives the task that ends when the reembed has."""
    with ExitStack() as shown:
        show: Callable[[Standing], None] = _nothing
        if not output.quiet and sys.stderr.isatty():
            show = ReembedBars(shown.enter_context(Bars())).update
        elif not output.quiet:
            show = ReembedLines().update
        stopped = StoppedQueue(output)

        def tell(now: Standing) -> None:
            show(now)
            stopped.update(now)

        task = asyncio.create_task(_until_done(begun, tell))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _until_done(begun: Reembedding, tell: Callable[[Standing], None]) -> Standing | None:
    while True:
        try:
            return await begun.done(on_progress=tell)
        except OUTAGE:
            # The worker beside us waits for the database too; it says so.
            await asyncio.sleep(_SECONDS_BETWEEN_LINES)


class StoppedQueue:
    """Says once why nothing moves: a provider's refusal pauses the queue, and only a person can mend it."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told: str | None = None

    def update(self, now: Standing) -> None:
        """Warn when there is another reason than the last one."""
        if now.queue_stopped is not None and now.queue_stopped != self._told:
            self._output.warn(f"The queue migrate is paused: {now.queue_stopped}")
            self._output.note("When that is mended: docyard queues resume migrate")
        self._told = now.queue_stopped


class ReembedBars:
    """A bar of the chunks that were left when this call began, then one step for each phase after it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._before: int | None = None
        self._phases: list[str] = []

    def update(self, now: Standing) -> None:
        """Move the bars."""
        if self._before is None:
            # Of what was done before nobody knows how long it took.
            self._before = now.done if now.done < now.chunks else 0
        kinds = {
            "Embedding": KindProgress(
                total=now.chunks - self._before, ended=now.done - self._before, dead=now.dead
            )
        }
        if now.phase in _LABELS and _LABELS[now.phase] not in self._phases:
            self._phases.append(_LABELS[now.phase])
        for phase in self._phases:
            over = now.has_ended or phase != _LABELS.get(now.phase)
            kinds[phase] = KindProgress(total=1, ended=int(over))
        self._bars.update(kinds)


class ReembedLines:
    """Logs ``reembed.progress`` every few seconds, and when a phase begins."""

    def __init__(self, seconds: float = _SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds
        self._begun = self._told = time.monotonic()
        self._before: int | None = None
        self._phase = ""

    def update(self, now: Standing) -> None:
        """Log a line when there is news."""
        if self._before is None:
            self._before = now.done
        moment = time.monotonic()
        if now.phase == self._phase and moment - self._told < self._seconds:
            return
        self._told, self._phase = moment, now.phase
        rate = (now.done - self._before) / max(moment - self._begun, 0.001)
        _log.info(
            "reembed.progress",
            model=now.model,
            phase=now.phase,
            chunks=now.chunks,
            chunks_done=now.done,
            failed=now.dead,
            chunks_per_s=round(rate, 1),
            eta_s=round((now.chunks - now.done) / rate) if rate else None,
        )


def _nothing(now: Standing) -> None:
    """Show nothing."""
