"""Says why a job is not running, by the same conditions that a claim goes by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a row's field

from psycopg.rows import class_row

from docyard_schema.errors import NotFound
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "explain.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that stands between a job and a worker, or what became of it.

    ``code`` is a stable word (docs/operations.md lists them). ``until`` is when it ends by itself, None if
    that is up to somebody or something else.
    """

    code: str
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A job's state and the reasons for it: never none, and all that hold at once."""

    job_id: int
    state: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    id: int
    state: str
    kind: str
    queue: str
    run_at: datetime | None
    attempts: int
    max_attempts: int | None
    began: bool
    cancelling: bool
    lock_key: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    snoozed_because: str | None
    paused: bool
    paused_reason: str | None
    batch_id: UUID | None
    batch_paused: bool
    ahead: int
    holder: int | None
    holder_runs: bool
    holder_worker: int | None
    worker_id: int | None
    worker_lives: bool
    workers: int
    serving: int
    able: int
    partition_key: str | None
    weight: float
    concurrency: int | None
    key_concurrency: int | None
    counted: int
    counted_of_key: int
    counted_first: int | None
    rate_wait_s: float | None
    key_rate_wait_s: float | None
    now: datetime
    cool_until: datetime | None
    cool_reason: str | None


async def explain(database: Database, job_id: int, *, connection: Connection | None = None) -> Explanation:
    """Why the job is where it is, at this moment. Raises :class:`NotFound`."""
    async with database.connection(connection) as opened, opened.cursor() as cursor:
        cursor.row_factory = class_row(_Facts)
        await cursor.execute(database.sql(_statements.facts), {"id": job_id})
        facts: _Facts | None = await cursor.fetchone()
    if facts is None:
        raise NotFound(f"There is no job {job_id}.", hint="List jobs with: docyard jobs list")
    told = _waiting if facts.state in ("available", "scheduled", "retryable") else _begun
    return Explanation(job_id=job_id, state=facts.state, reasons=tuple(told(facts)))


def _begun(facts: _Facts) -> Iterator[Reason]:
    if facts.state != "running":
        yield Reason(
            code=facts.state, text=f"It was {_ENDED[facts.state]}{_at(facts.finished_at)}{_why(facts)}."
        )
        return
    of = "" if facts.max_attempts is None else f" of {facts.max_attempts}"
    yield Reason(
        code="running",
        text=f"Attempt {facts.attempts}{of} runs on worker {facts.worker_id}"
        f"{_at(facts.started_at, 'since')}.",
    )
    if facts.cancelling:
        yield Reason(code="cancel_requested", text="Its handler was asked to stop.")
    if not facts.worker_lives:
        yield Reason(
            code="worker_lost",
            text=f"Worker {facts.worker_id} is gone or silent; another worker takes the job over.",
        )


def _waiting(facts: _Facts) -> Iterator[Reason]:
    found = [*_of_time(facts), *_of_queue(facts), *_of_limits(facts), *_of_lock(facts), *_of_workers(facts)]
    yield from found or [
        Reason(
            code="ready",
            text=f"Nothing holds it: it waits for a free slot of {_counted(facts.able, 'worker')}, "
            "behind jobs of higher priority and older ones.",
        )
    ]


def _of_time(facts: _Facts) -> Iterator[Reason]:
    because = (facts.snoozed_because or "").strip()
    if facts.state in ("retryable", "scheduled") and because:
        first = because.splitlines()[0][:400].rstrip(".")
        text = f"It is put off{_at(facts.run_at, 'until')}: {first}."
        yield Reason(code="snoozed", text=text, until=facts.run_at)
    elif facts.state == "retryable":
        yield Reason(
            code="retryable",
            text=f"It waits for its next attempt{_at(facts.run_at, 'until')}, "
            f"after {_counted(facts.attempts, 'attempt')}{_why(facts)}.",
            until=facts.run_at,
        )
    elif facts.state == "scheduled":
        # A snooze gives its attempt back, so only the lease tells that it ran.
        code, word = ("snoozed", "put off") if facts.began else ("scheduled", "scheduled")
        yield Reason(code=code, text=f"It is {word}{_at(facts.run_at, 'until')}.", until=facts.run_at)


def _of_queue(facts: _Facts) -> Iterator[Reason]:
    if facts.paused:
        because = f": {facts.paused_reason}" if facts.paused_reason else ""
        yield Reason(
            code="queue_paused",
            text=f"Queue {facts.queue} is paused{because}. Go on with: docyard queues resume {facts.queue}",
        )
    if facts.batch_paused:
        yield Reason(
            code="batch_paused",
            text=f"Its batch is paused. Go on with: docyard batches resume {facts.batch_id}",
        )


def _of_limits(facts: _Facts) -> Iterator[Reason]:
    if facts.cool_until is not None:
        because = f": {facts.cool_reason}" if facts.cool_reason else ""
        yield Reason(
            code="cooling_down",
            text="Its queue, or its partition key, is cooling down"
            f"{_at(facts.cool_until, 'until')}{because}.",
            until=facts.cool_until,
        )
    if facts.concurrency is not None and facts.counted >= facts.concurrency:
        first = "" if facts.counted_first is None else f", job {facts.counted_first} first"
        yield Reason(
            code="queue_limit",
            text=f"Queue {facts.queue} may run {_counted(facts.concurrency, 'job')} at once, and "
            f"{facts.counted:,} run{first}. "
            f"Change it with: docyard queues limit {facts.queue} --concurrency N",
        )
    if facts.key_concurrency is not None and facts.counted_of_key >= facts.key_concurrency:
        yield Reason(
            code="key_limit",
            text=f"Of one partition key {_counted(facts.key_concurrency, 'job')} may run at once, and "
            f"{facts.counted_of_key:,} of {facts.partition_key!r} run.",
        )
    waits = [seconds for seconds in (facts.rate_wait_s, facts.key_rate_wait_s) if seconds and seconds > 0]
    if waits:
        until = facts.now + timedelta(seconds=max(waits))
        yield Reason(
            code="rate_limit",
            text=f"The rate of its queue, or of its partition key, is used up; there is enough for this "
            f"job{_at(until)}, if none comes first.",
            until=until,
        )


def _of_lock(facts: _Facts) -> Iterator[Reason]:
    if facts.holder is None:
        return
    if facts.holder_runs:
        text = (
            f"Job {facts.holder} holds lock key {facts.lock_key!r} and runs on worker {facts.holder_worker}"
        )
    else:
        text = f"Job {facts.holder} has lock key {facts.lock_key!r} too and comes first"
    others = f"; {_counted(facts.ahead, 'job')} of that key are ahead" if facts.ahead > 1 else ""
    yield Reason(code="lock_held" if facts.holder_runs else "lock_in_line", text=f"{text}{others}.")


def _of_workers(facts: _Facts) -> Iterator[Reason]:
    if facts.able:
        return
    if not facts.workers:
        yield Reason(code="no_worker", text="No worker runs. Start one with: docyard worker")
    elif not facts.serving:
        yield Reason(
            code="queue_unserved",
            text=f"Workers run ({facts.workers}), but none serves queue {facts.queue}. "
            f"Start one with: docyard worker --queue {facts.queue}",
        )
    else:
        yield Reason(
            code="kind_unknown",
            text=f"Workers serve queue {facts.queue} ({facts.serving}), but none has a handler for "
            f"{facts.kind}. Start one that has: docyard worker --app MODULE:REGISTRY",
        )


_ENDED = {"completed": "completed", "cancelled": "cancelled", "dead": "given up"}


def _why(facts: _Facts) -> str:
    said = (facts.error_message or "").strip().splitlines()
    first = said[0][:200].rstrip(".") if said else ""
    return f" ({facts.error_code}{': ' if first else ''}{first})" if facts.error_code else ""


def _at(time: datetime | None, word: str = "at") -> str:
    return "" if time is None else f" {word} {time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
