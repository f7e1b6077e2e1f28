"""The queue of docyard: enqueue, claim, lease, finish, retry, rescue.

Stands on :mod:`docyard_schema` and knows nothing of documents.
"""

from docyard_queue.attempt import Attempt
from docyard_queue.attempt_batch import AttemptBatch
from docyard_queue.backoff import Backoff
from docyard_queue.batches import (
    BatchProgress,
    batch_progress,
    cancel_batch,
    create_batch,
    list_batches,
    pause_batch,
    resume_batch,
)
from docyard_queue.bulk import enqueue_many
from docyard_queue.engine import Engine, PostgresEngine
from docyard_queue.enqueue import enqueue, enqueue_async
from docyard_queue.errors import (
    JobTimeout,
    LeaseLost,
    PermanentError,
    QueueError,
    QueueFull,
    RateLimited,
    UnknownKind,
)
from docyard_queue.inspection import Inspection
from docyard_queue.jobs import Job, NewJob
from docyard_queue.joint_commit import commit_together
from docyard_queue.outcomes import Cancel, Done, Snooze
from docyard_queue.registry import HandlerSpec, Registry
from docyard_queue.states import JobState
from docyard_queue.views import AttemptRow, JobRow, QueueStats, WorkerRow

__all__ = [
    "Attempt",
    "AttemptBatch",
    "AttemptRow",
    "Backoff",
    "BatchProgress",
    "Cancel",
    "Done",
    "Engine",
    "HandlerSpec",
    "Inspection",
    "Job",
    "JobRow",
    "JobState",
    "JobTimeout",
    "LeaseLost",
    "NewJob",
    "PermanentError",
    "PostgresEngine",
    "QueueError",
    "QueueFull",
    "QueueStats",
    "RateLimited",
    "Registry",
    "Snooze",
    "UnknownKind",
    "WorkerRow",
    "batch_progress",
    "cancel_batch",
    "commit_together",
    "create_batch",
    "enqueue",
    "enqueue_async",
    "enqueue_many",
    "list_batches",
    "pause_batch",
    "resume_batch",
]
