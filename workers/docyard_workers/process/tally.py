"""Counts the outcomes that were written, and tells of them in the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from docyard_queue.outcomes import Cancel, Failure, Snooze

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from docyard_queue.jobs import Job
    from docyard_queue.outcomes import Outcome

_log = structlog.get_logger("docyard.worker")

# A retry that is due sooner wakes the worker; a later one is found by polling.
_LONGEST_TIMER_SECONDS = 60.0


class Tally:
    """``completed`` counts jobs that succeeded, ``failed`` those that became dead letters.

    ``wake`` is called when a job that waits for another attempt is due soon.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.completed = self.failed = 0
        self._wake = wake

    def written(self, job: Job, outcome: Outcome) -> None:
        """An outcome of this job that is no completion was written."""
        fields = {"job_id": job.id, "kind": job.kind, "attempt": job.attempt}
        match outcome:
            case Failure(retry_in=None):
                self.failed += 1
                _log.error("job.died", error=outcome.message, error_class=outcome.error_class, **fields)
            case Failure():
                delay = outcome.retry_in
                self._wake_in(delay)
                seconds = round(delay.total_seconds(), 1) if delay else 0
                _log.warning("job.failed", error=outcome.message, retry_in_s=seconds, **fields)
            case Snooze():
                self._wake_in(outcome.delay)
                _log.info(
                    "job.snoozed", delay_s=outcome.delay.total_seconds(), reason=outcome.reason, **fields
                )
            case Cancel():
                _log.info("job.cancelled", reason=outcome.reason, **fields)

    def released(self, job: Job, reason: str) -> None:
        """A job was given back."""
        _log.info("job.released", job_id=job.id, kind=job.kind, reason=reason)

    def lost(self, job: Job) -> None:
        """An outcome could not be written, for the lease was lost."""
        _log.warning("job.lease_lost", job_id=job.id, kind=job.kind, lease=job.lease)

    def failed_after_commit(self, job: Job, error: str) -> None:
        """A handler raised after its commit: the effects are in, and running it again would double them."""
        _log.error("job.failed_after_commit", job_id=job.id, kind=job.kind, error=error)

    def abandoned(self, job: Job) -> None:
        """A worker that ends could not give this job back; rescue finds it."""
        _log.warning("job.abandoned", job_id=job.id, kind=job.kind, lease=job.lease)

    def _wake_in(self, delay: timedelta | None) -> None:
        seconds = delay.total_seconds() if delay else 0
        if 0 < seconds <= _LONGEST_TIMER_SECONDS:
            asyncio.get_running_loop().call_later(seconds + 0.001, self._wake)
