"""What became of an attempt that a test ran."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta  # noqa: TC003
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from docyard_queue.outcomes import Cancel, Done, Failure, Outcome, Snooze

if TYPE_CHECKING:
    from docyard_queue import Job

Ending: TypeAlias = Literal["done", "failed", "snoozed", "cancelled", "crashed", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """One attempt and its outcome.

    ``result`` is what the handler returned or committed with. ``delay`` is how long the job waits for its
    next attempt, None when there is none: a failure without one is a dead letter. ``error`` is what the
    handler raised, None if docyard refused the payload; ``code``, ``error_class``, ``message`` and
    ``traceback`` are those that are kept. ``reason`` is that of a snooze or cancel. ``lost`` means that the
    lease was: somebody took the job meanwhile.
    """

    job: Job
    outcome: Ending
    result: Any = None
    delay: timedelta | None = None
    error: BaseException | None = None
    code: str = ""
    error_class: str = ""
    message: str = ""
    traceback: str = ""
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether the job is completed."""
        return self.outcome == "done"

    @property
    def retryable(self) -> bool:
        """Whether the job failed and will be tried again."""
        return self.outcome == "failed" and self.delay is not None

    @property
    def dead(self) -> bool:
        """Whether the job failed for good."""
        return self.outcome == "failed" and self.delay is None

    def require_done(self) -> Self:
        """Fail, from the handler's own exception, unless the job is completed; returns itself."""
        __tracebackhide__ = True
        if not self.done:
            raise AssertionError(str(self)) from self.error
        return self

    def __str__(self) -> str:
        text = f"job {self.job.id}, {self.job.kind!r}, attempt {self.job.attempt}: {self.outcome}"
        if self.outcome == "failed":
            text += f" ({self.error_class}: {self.message}), "
            text += "dead" if self.delay is None else f"again in {self.delay}"
        elif self.reason:
            text += f" ({self.reason})"
        return text


def performed(job: Job, outcome: Outcome, error: BaseException | None) -> Performed:
    """An outcome as the worker would write it, told to a test."""
    match outcome:
        case Done():
            return Performed(job=job, outcome="done", result=outcome.result)
        case Snooze():
            return Performed(
                job=job, outcome="snoozed", delay=outcome.delay, reason=outcome.reason, error=error
            )
        case Cancel():
            return Performed(job=job, outcome="cancelled", reason=outcome.reason)
        case Failure():
            return Performed(
                job=job,
                outcome="failed",
                delay=outcome.retry_in,
                error=error,
                code=outcome.code,
                error_class=outcome.error_class,
                message=outcome.message,
                traceback=outcome.traceback,
            )
