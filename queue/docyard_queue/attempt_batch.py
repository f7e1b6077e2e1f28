"""Attempts that one handler runs together, and how it ends each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from typing_extensions import override

from docyard_queue.errors import QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docyard_queue.attempt import Attempt
    from docyard_queue.outcomes import Cancel, Done, Snooze


class AttemptBatch(Sequence["Attempt"]):
    """What a batch handler gets beside its payloads: the attempts, most urgent first.

    What the handler does not end by :meth:`settle` or a commit is done when it returns, and gets the
    exception when it raises.
    """

    def __init__(self, attempts: Iterable[Attempt], settled: Callable[[Attempt, Any], None]) -> None:
        self._attempts = tuple(attempts)
        self._members = frozenset(self._attempts)
        self._settled = settled

    def settle(self, attempt: Attempt, outcome: Done | Snooze | Cancel | BaseException | Any = None) -> None:
        """End one attempt now: by an outcome, or by an exception, as if it had raised it alone.

        Anything else is done with that as its result. What has ended already (its lease was lost, somebody
        cancelled it, its time was over) stays as it is. Returns before the outcome is written. May be
        called from any thread. Raises :class:`QueueError` for an attempt that is not of this batch.
        """
        if attempt not in self._members:
            raise QueueError(
                f"The attempt of job {attempt.job.id} is not one of this batch.",
                hint="settle() takes the members of the batch that the handler was called with.",
                operation="settle",
            )
        self._settled(attempt, outcome)

    @property
    def unsettled(self) -> list[Attempt]:
        """Those that have not ended yet, in their order."""
        return [attempt for attempt in self._attempts if not attempt.ended]

    @overload
    def __getitem__(self, index: int) -> Attempt: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Attempt]: ...

    @override
    def __getitem__(self, index: int | slice) -> Attempt | Sequence[Attempt]:
        return self._attempts[index]

    @override
    def __len__(self) -> int:
        return len(self._attempts)

    def __repr__(self) -> str:
        return f"<AttemptBatch of {len(self._attempts)}, {len(self.unsettled)} unsettled>"
