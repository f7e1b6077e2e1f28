"""The states of a job that a person sees.

::

    enqueue ──► scheduled ──(its time comes)──► available ──claim──► running ──► completed
                    │                              ▲                 │ │ │
                    │                  (backoff ends)              fail │ └──► cancelled
                    │                          retryable ◄───────────┘ │
                    └──cancel──► cancelled                  (last attempt) ──► dead ──retry──► available

Three of them are one stored status and a time: ``scheduled``, ``available`` and ``retryable`` are all
procrastinate's ``todo``. The SQL function ``docyard.job_state`` says the same, and a test holds the two
together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class JobState(StrEnum):
    """Where a job is on its way."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DEAD = "dead"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to the job any more unless a person wants it to."""
        return self in (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


# Stored status → state, for all but "todo".
_STATE_OF_STATUS = {
    "doing": JobState.RUNNING,
    "succeeded": JobState.COMPLETED,
    "failed": JobState.DEAD,
    "cancelled": JobState.CANCELLED,
    "aborting": JobState.CANCELLED,
    "aborted": JobState.CANCELLED,
}


def state_of(status: str, attempts: int, scheduled_at: datetime | None, now: datetime) -> JobState:
    """The state behind stored columns, as ``docyard.job_state`` computes it."""
    if status != "todo":
        return _STATE_OF_STATUS[status]
    if scheduled_at is None or scheduled_at <= now:
        return JobState.AVAILABLE
    return JobState.RETRYABLE if attempts else JobState.SCHEDULED
