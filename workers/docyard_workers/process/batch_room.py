"""How much one batch handler holds of its jobs, and how much more it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_workers.process.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docyard_queue.jobs import Job
    from docyard_queue.registry import HandlerSpec


class BatchRoom:
    """The place of one batch handler in a worker, counted in weight.

    ``kinds`` (name → default limit of attempts) are the handler's, its aliases among them; in ``threads`` it
    runs if it is sync.
    """

    def __init__(self, specs: Iterable[HandlerSpec], threads: Threads) -> None:
        specs = list(specs)
        self.spec = specs[0]
        assert self.spec.batch is not None  # noqa: S101 - the caller's choice
        self.kinds = {spec.kind: spec.max_attempts for spec in specs}
        self.queue = self.spec.queue
        self.size = self.spec.batch.size
        self.wait = self.spec.batch.wait.total_seconds()
        self.threads = threads
        self._running = 0.0
        self._unwritten = 0.0
        self._held = 0

    @property
    def free(self) -> float:
        """The weight that may be claimed now; zero or less: none."""
        if self.threads.overrunning:
            # A thread outlived its call, and nobody knows what it still holds.
            return 0.0
        # What has ended makes room at once. Outcomes that are not written are bounded all the same.
        return self.size - max(self._running, self._running + self._unwritten - self.size)

    @property
    def empty(self) -> bool:
        """Whether it holds nothing, so that one job of any weight may come."""
        return not self._held

    def take(self, job: Job) -> None:
        """A job was claimed."""
        self._held += 1
        self._running += job.weight

    def ended(self, job: Job) -> None:
        """Its handler is done with it."""
        self._running -= job.weight
        self._unwritten += job.weight

    def written(self, job: Job) -> None:
        """Its outcome was written."""
        self._held -= 1
        self._unwritten -= job.weight
        if not self._held:
            # Sums of fractions drift.
            self._running = self._unwritten = 0.0


def rooms_of(specs: Iterable[HandlerSpec], wake: Callable[[], None]) -> list[BatchRoom]:
    """A room for each batch handler; a kind and its aliases share one.

    ``wake`` is called when a thread has ended that outlived its call.
    """
    found: dict[int, list[HandlerSpec]] = {}
    for spec in specs:
        if spec.batch is not None:
            found.setdefault(id(spec.batch), []).append(spec)
    return [BatchRoom(group, Threads(wake)) for group in found.values()]
