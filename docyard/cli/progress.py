"""How far a batch is: a bar on a terminal, a structured line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import structlog

from docyard.batch import KindProgress
from docyard.cli.output import harmless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from rich.progress import Progress, Task, TaskID
    from rich.text import Text

    from docyard.batch import Batch

_log = structlog.get_logger("docyard.cli")

_SECONDS_BETWEEN_LINES = 5.0
_NONE = KindProgress()
_LABELS = {"ingest": "Reading", "embed": "Embedding"}


class Display(ABC):
    """Shows a batch's progress while it is entered."""

    @abstractmethod
    def update(self, kinds: Mapping[str, KindProgress]) -> None:
        """Show this."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class NoDisplay(Display):
    """Shows nothing."""

    def update(self, kinds: Mapping[str, KindProgress]) -> None:
        """Show nothing."""


class Lines(Display):
    """Logs ``ingest.progress`` every few seconds."""

    def __init__(self, seconds: float = _SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds
        self._begun = self._told = time.monotonic()

    def update(self, kinds: Mapping[str, KindProgress]) -> None:
        """Log a line when the last one is long enough ago."""
        now = time.monotonic()
        if now - self._told < self._seconds:
            return
        self._told = now
        self.tell(kinds, now - self._begun)

    def tell(self, kinds: Mapping[str, KindProgress], seconds: float) -> None:
        """Log a line, so long after the beginning."""
        read, embedded = kinds.get("ingest", _NONE), kinds.get("embed", _NONE)
        rate = read.ended / seconds
        _log.info(
            "ingest.progress",
            files=read.total,
            files_done=read.ended,
            embeds=embedded.total,
            embeds_done=embedded.ended,
            failed=read.dead + embedded.dead,
            files_per_s=round(rate, 1),
            eta_s=round((read.total - read.ended) / rate) if rate else None,
        )


class BatchLines(Lines):
    """Logs ``batch.progress`` every few seconds, for jobs of any kind."""

    def tell(self, kinds: Mapping[str, KindProgress], seconds: float) -> None:
        """Log a line."""
        total = sum(kind.total for kind in kinds.values())
        ended = sum(kind.ended for kind in kinds.values())
        _log.info(
            "batch.progress",
            jobs=total,
            ended=ended,
            failed=sum(kind.dead for kind in kinds.values()),
        )


class Bars(Display):
    """Bars on standard error, one per kind: files read, documents embedded (whose number grows), others."""

    def __init__(self) -> None:
        self._progress = _bars()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, kinds: Mapping[str, KindProgress]) -> None:
        """Move the bars."""
        for kind in sorted(kinds, key=lambda kind: (kind not in _LABELS, kind != "ingest", kind)):
            counted = kinds[kind]
            if kind not in self._tasks:
                label = _LABELS.get(kind, harmless(kind))
                self._tasks[kind] = self._progress.add_task(label, total=counted.total, dead=0)
            self._progress.update(
                self._tasks[kind], total=counted.total, completed=counted.ended, dead=counted.dead
            )


@asynccontextmanager
async def watched(batch: Batch, display: Display) -> AsyncIterator[None]:
    """Keep ``display`` up to date while the block runs, and once more at its end."""
    with display:
        watching = asyncio.create_task(until_done(batch, display))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        display.update(await batch.kinds())


async def until_done(batch: Batch, display: Display) -> None:
    """Wait until every job of the batch has ended, here or elsewhere."""
    while True:
        begun = time.monotonic()
        kinds = await batch.kinds()
        display.update(kinds)
        if all(counted.ended == counted.total for counted in kinds.values()):
            return
        # Counting a large batch takes a while; it gets a tenth of the time at most.
        await asyncio.sleep(max(0.2, 10 * (time.monotonic() - begun)))


def log_enqueued(batch: Batch) -> None:
    """Log that a batch's jobs wait."""
    _log.info("ingest.enqueued", batch_id=str(batch.id), files=batch.files, refused=len(batch.refused))


async def log_finished(batch: Batch, seconds: float) -> None:
    """Log what became of a batch; its ``state`` says whether all of it has ended."""
    progress = await batch.progress()
    _log.info(
        "ingest.finished",
        batch_id=str(batch.id),
        state=progress.state,
        jobs=progress.total,
        completed=progress.completed,
        dead=progress.dead,
        cancelled=progress.cancelled,
        seconds=round(seconds, 1),
    )


def choose_display(*, quiet: bool, any_kind: bool = False) -> Display:
    """What fits where standard error goes; ``any_kind``: not only the jobs of an ingest."""
    if quiet:
        return NoDisplay()
    if sys.stderr.isatty():
        return Bars()
    return BatchLines() if any_kind else Lines()


def _bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    from docyard.cli.output import console, span

    class Pace(ProgressColumn):
        """Rate, the time left or taken, failures."""

        def render(self, task: Task) -> Text:
            elapsed = task.finished_time or task.elapsed or 0
            rate = task.completed / elapsed if elapsed else 0
            parts = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"]
            if task.finished:
                parts.append(f"in {span(elapsed)}")
            elif rate and task.total:
                parts.append(f"{span((task.total - task.completed) / rate)} left")
            text = Text(" · ".join(parts), style="dim")
            if dead := task.fields.get("dead"):
                text.append(f" · {dead} failed", style="red")
            return text

    return Progress(
        # A kind is what a producer called it, and no markup.
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Pace(),
        console=console(sys.stderr),
    )
