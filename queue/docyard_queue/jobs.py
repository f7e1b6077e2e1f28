"""A job as it is asked for, and a job as a worker has claimed it."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID  # noqa: TC003

from docyard_schema.errors import InvalidInput

DEFAULT_QUEUE = "default"
# With "procrastinate_queue_v1#" before it, the queue's NOTIFY channel has Postgres's longest name.
MAXIMUM_QUEUE_BYTES = 40
MAXIMUM_KIND_LENGTH = 128
# An index entry has room for 2,700 bytes.
MAXIMUM_KEY_BYTES = 1024
# The sum of now and more could be out of a timestamp's range.
MAXIMUM_UNIQUE_FOR = timedelta(days=3650)

UniqueScope = Literal["waiting", "until_done"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue: ``NewJob("charge", {"order": 7}, queue="billing")``.

    Higher ``priority`` runs first. ``run_at`` is aware of its time zone; None is now. ``max_attempts``
    and ``timeout`` of None leave them to the handler. Of jobs with one ``lock_key`` only one runs at a time,
    in order. Raises :class:`InvalidInput` for what no job can have.

    Who enqueues under a ``unique_key`` that is held gets the holder's id. A job holds its key while it waits;
    with ``unique_scope="until_done"`` until it is completed, cancelled or dead; with ``unique_for`` that long
    from its enqueue, whatever becomes of it. The last two share their keys; the same word held while waiting
    is another key.

    ``partition_key`` says whose the job is, a tenant's or a customer's: in a queue the partitions take turns,
    and limits per key count by it. ``weight`` (None: 1) is what the job takes from its queue's rate.
    """

    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    run_at: datetime | None = None
    max_attempts: int | None = None
    timeout: timedelta | None = None
    unique_key: str | None = None
    lock_key: str | None = None
    batch_id: UUID | None = None
    unique_scope: UniqueScope = "waiting"
    unique_for: timedelta | None = None
    partition_key: str | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        _require_text("kind", self.kind)
        if len(self.kind) > MAXIMUM_KIND_LENGTH:
            raise InvalidInput(f"A job's kind has 1 to {MAXIMUM_KIND_LENGTH} characters, got {self.kind!r}.")
        if _require_text("queue", self.queue) > MAXIMUM_QUEUE_BYTES:
            raise InvalidInput(
                f"A queue's name has 1 to {MAXIMUM_QUEUE_BYTES} bytes, got {self.queue!r}.",
                hint="It is part of a NOTIFY channel's name, which Postgres cuts at 63 bytes.",
            )
        for name in ("unique_key", "lock_key", "partition_key"):
            key = getattr(self, name)
            if key is not None and _require_text(name, key) > MAXIMUM_KEY_BYTES:
                raise InvalidInput(
                    f"A job's {name} has 1 to {MAXIMUM_KEY_BYTES:,} bytes, got {len(key.encode()):,}.",
                    hint="Hash what is longer.",
                )
        if not -(2**31) <= self.priority < 2**31:
            raise InvalidInput(f"A job's priority is a 32-bit number, got {self.priority}.")
        if self.run_at is not None and self.run_at.utcoffset() is None:
            raise InvalidInput(
                f"run_at must name its time zone, got {self.run_at.isoformat()}.",
                hint="For example: datetime.now(UTC) + timedelta(minutes=5).",
            )
        if self.max_attempts is not None and not 1 <= self.max_attempts < 2**31:
            raise InvalidInput(f"max_attempts is at least 1, got {self.max_attempts}.")
        if self.timeout is not None and self.timeout.total_seconds() <= 0:
            raise InvalidInput(f"timeout is longer than zero, got {self.timeout}.")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise InvalidInput(f"A job's weight is a number above zero, got {self.weight}.")
        _require_scope(self)


def _require_scope(job: NewJob) -> None:
    if job.unique_scope not in ("waiting", "until_done"):
        raise InvalidInput(
            f"unique_scope is 'waiting' or 'until_done', got {job.unique_scope!r}.",
            hint="For a period give unique_for=timedelta(hours=1).",
        )
    if job.unique_key is None and (job.unique_scope != "waiting" or job.unique_for is not None):
        raise InvalidInput(
            "unique_scope and unique_for need a unique_key.", hint="Give a unique_key, or leave them out."
        )
    if job.unique_for is not None and job.unique_scope != "waiting":
        raise InvalidInput(
            "A unique key holds either until_done or for a period, not both.",
            hint="Leave out unique_scope or unique_for.",
        )
    if job.unique_for is not None and not timedelta(0) < job.unique_for <= MAXIMUM_UNIQUE_FOR:
        raise InvalidInput(
            f"unique_for is longer than zero and at most 3,650 days, got {job.unique_for}.",
            hint="To keep a key while its job lives give unique_scope='until_done'.",
        )


def _require_text(name: str, text: str) -> int:
    """The text's length in bytes; raises :class:`InvalidInput` for what Postgres cannot store."""
    try:
        size = len(text.encode())
    except (AttributeError, UnicodeEncodeError):
        size = 0
    if not size or "\x00" in text:
        raise InvalidInput(
            f"A job's {name} is text, not empty, without NUL or half characters, got {text!r}."
        )
    return size


class Job(NamedTuple):
    """A job that a worker holds. (A tuple: making a frozen dataclass takes four times as long, and there are
    tens of thousands a second.)

    ``attempt`` counts from 1. ``lease`` grows with every claim and is the fence: a write that names an
    older one is refused. ``limited`` says that it was claimed by its queue's limits and counts in them.
    ``alone``: it ran beside others in a worker process that ended, and must now run with nothing beside it.
    """

    id: int
    kind: str
    queue: str
    payload: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    lease: int
    lock_key: str | None
    batch_id: UUID | None
    timeout_seconds: float | None
    created_at: datetime
    started_at: datetime
    alone: bool = False
    partition_key: str | None = None
    weight: float = 1.0
    limited: bool = False
