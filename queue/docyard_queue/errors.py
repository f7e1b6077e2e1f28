"""The queue's branch of the errors, and how a handler says which of its own are final::

DocyardError                (docyard_schema.errors)
└── QueueError
    ├── LeaseLost           another worker has the job by now; nothing was written
    ├── PermanentError      raise it: trying again cannot help, the job is dead at once
    ├── RateLimited         raise it: try again after a while, this attempt does not count
    │   └── QueueFull       as many jobs wait as their queue allows; nothing was enqueued
    ├── JobTimeout          the handler ran longer than its timeout
    ├── IsolationFailed     no child process could be started that knows the handler
    └── UnknownKind         no handler is registered under that name
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docyard_schema.errors import DocyardError

if TYPE_CHECKING:
    from datetime import timedelta


class QueueError(DocyardError):
    """The root of the queue's errors."""

    code = "queue"


class LeaseLost(QueueError):
    """Another worker has the job by now, or it was cancelled: what this attempt did is rolled back."""

    code = "lease_lost"

    def __init__(self, job_id: int, lease: int, **details: Any) -> None:
        super().__init__(
            f"Job {job_id} is no longer held under lease {lease}: nothing of this attempt was written.",
            hint="The worker missed three heartbeats, or the job was cancelled; its newer attempt goes on.",
            operation="commit",
            **details,
        )
        self.job_id = job_id
        self.lease = lease


class PermanentError(QueueError):
    """Trying again cannot help: the job becomes a dead letter at once."""

    code = "permanent"


class RateLimited(QueueError):
    """Somebody asked for patience: wait ``retry_after`` (None: the backoff); the attempt does not count."""

    code = "rate_limited"
    retryable = True

    def __init__(
        self, message: str, *, retry_after: timedelta | None = None, hint: str = "", operation: str = ""
    ) -> None:
        super().__init__(message, hint=hint, operation=operation)
        self.retry_after = retry_after


class QueueFull(RateLimited):
    """As many jobs wait in the queue as its depth allows: enqueue again later. The transaction is lost."""

    code = "queue_full"


class JobTimeout(QueueError):
    """The handler ran longer than its timeout."""

    code = "timeout"
    retryable = True


class IsolationFailed(QueueError):
    """No child process could be started that knows the handler: it did not begin."""

    code = "isolation_failed"
    retryable = True


class UnknownKind(QueueError):
    """No handler is registered under that name."""

    code = "unknown_kind"
