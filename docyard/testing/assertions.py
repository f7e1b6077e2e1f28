"""Asserts that code under test enqueued what it should have, or did not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from docyard.testing.expectation import Expectation
from docyard.testing.listing import EnqueuedJob, is_in, list_jobs, list_jobs_async

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from pydantic import BaseModel

    from docyard.testing.listing import AsyncPlace, Place

_NEAREST = 5


def assert_enqueued(
    place: Place,
    kind: str,
    payload: Mapping[str, Any] | BaseModel | None = None,
    *,
    count: int | None = None,
    queue: str | None = None,
    run_at: datetime | timedelta | None = None,
    unique_key: str | None = None,
    lock_key: str | None = None,
    partition_key: str | None = None,
    priority: int | None = None,
    batch_id: UUID | None = None,
    state: str | None = None,
    schema: str = "docyard",
) -> list[EnqueuedJob]:
    """Fail unless a job like this waits, or exactly ``count`` of them; returns those that do.

    ``place`` is a psycopg connection, whose open transaction counts, or a :class:`Database`, or a URL.
    ``payload`` is what the job's has at least, also in mappings inside; a value may be a matcher such as
    ``unittest.mock.ANY``. ``run_at`` is a time, or a span from the job's enqueue, right to a second.
    ``state`` of None is waiting (scheduled, available or retryable), ``"any"`` is any.
    """
    expected = Expectation.of(
        kind, payload, queue=queue, run_at=run_at, unique_key=unique_key, lock_key=lock_key,
        partition_key=partition_key, priority=priority, batch_id=batch_id,
    )  # fmt: skip
    return _require(list_jobs(place, None, schema), expected, state, count)


async def assert_enqueued_async(
    place: AsyncPlace,
    kind: str,
    payload: Mapping[str, Any] | BaseModel | None = None,
    *,
    count: int | None = None,
    state: str | None = None,
    schema: str = "docyard",
    **columns: Any,
) -> list[EnqueuedJob]:
    """:func:`assert_enqueued` where an asynchronous connection has the open transaction."""
    expected = Expectation.of(kind, payload, **columns)
    return _require(await list_jobs_async(place, None, schema), expected, state, count)


def refute_enqueued(
    place: Place,
    kind: str,
    payload: Mapping[str, Any] | BaseModel | None = None,
    *,
    state: str | None = None,
    schema: str = "docyard",
    **columns: Any,
) -> None:
    """Fail if a job like this waits. The arguments are those of :func:`assert_enqueued`."""
    _require(list_jobs(place, None, schema), Expectation.of(kind, payload, **columns), state, 0)


async def refute_enqueued_async(
    place: AsyncPlace,
    kind: str,
    payload: Mapping[str, Any] | BaseModel | None = None,
    *,
    state: str | None = None,
    schema: str = "docyard",
    **columns: Any,
) -> None:
    """:func:`refute_enqueued` where an asynchronous connection has the open transaction."""
    expected = Expectation.of(kind, payload, **columns)
    _require(await list_jobs_async(place, None, schema), expected, state, 0)


def _require(
    jobs: Sequence[EnqueuedJob], expected: Expectation, state: str | None, count: int | None
) -> list[EnqueuedJob]:
    __tracebackhide__ = True
    fitting = [job for job in jobs if not expected.differences(job)]
    found = [job for job in fitting if is_in(job, state)]
    if (len(found) == count) if count is not None else found:
        return found
    raise AssertionError("\n".join(_complaint(jobs, fitting, found, expected, state, count)))


def _complaint(
    jobs: Sequence[EnqueuedJob],
    fitting: Sequence[EnqueuedJob],
    found: Sequence[EnqueuedJob],
    expected: Expectation,
    state: str | None,
    count: int | None,
) -> list[str]:
    wanted = {None: "", 0: "no job: "}.get(count, f"exactly {count} of: ")
    lines = [f"expected {wanted}{expected}, {'waiting' if state is None else f'in state {state}'}"]
    if found:
        return [*lines, f"found {len(found)}:", *(f"  {_shown(job)}" for job in found[: 2 * _NEAREST])]
    if fitting:
        # The usual surprise: it was enqueued, and has run.
        return [
            *lines,
            "found none; these fit, but for their state:",
            *(f"  {_shown(job)}" for job in fitting),
        ]
    if not jobs:
        return [*lines, "found no job at all; was the transaction that enqueues it committed?"]
    kinds = Counter(job.kind for job in jobs)
    lines.append("found none among: " + ", ".join(f"{number} {kind!r}" for kind, number in kinds.items()))
    near = sorted(jobs, key=lambda job: (job.kind != expected.kind, len(expected.differences(job)), -job.id))
    lines.append("the nearest:")
    for job in near[:_NEAREST]:
        lines.append(f"  {_shown(job)}")
        lines += [f"    {difference}" for difference in expected.differences(job)]
    return lines


def _shown(job: EnqueuedJob) -> str:
    return f"job {job.id}, {job.kind!r} in {job.queue!r}, {job.state}, payload {job.payload!r}"
