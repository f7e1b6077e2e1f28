"""Rows of the queue's views, as Python has them; docs/views.md describes the columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from uuid import UUID  # noqa: TC003


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A row of the view ``docyard.jobs``."""

    id: int
    kind: str
    queue: str
    state: str
    priority: int
    attempts: int
    max_attempts: int | None
    lock_key: str | None
    unique_key: str | None
    batch_id: UUID | None
    worker_id: int | None
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """What became of one attempt; ``traceback`` only of one that raised."""

    attempt: int
    lease: int
    worker_id: int | None
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    error_class: str | None
    error_message: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """A row of the view ``docyard.queue_stats``; ``oldest_available_s`` is seconds, None if none waits."""

    queue: str
    paused: bool
    scheduled: int
    available: int
    running: int
    retryable: int
    dead: int
    completed_24h: int
    oldest_available_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A row of the view ``docyard.workers``; ``queues`` of None is all of them."""

    id: int
    host: str | None
    pid: int | None
    queues: list[str] | None
    running: int
    started_at: datetime
    heartbeat_at: datetime
    state: str
