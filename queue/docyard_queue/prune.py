"""Deletes jobs that ended long ago, a bounded batch at a time; never one that has not ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from docyard_queue.collisions import until_it_passes
from docyard_queue.states import JobState
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docyard_schema.database import Database

_statements = load_statements("docyard_queue", "prune.sql")

_CANCELLED = "job.status IN ('cancelled', 'aborting', 'aborted')"
# State → which rows, and when they ended. What procrastinate's cancel ended before schema step 14 has no time
# of its end.
_ENDED = {
    JobState.COMPLETED: ("job.status = 'succeeded'", "job.finished_at"),
    JobState.CANCELLED: (_CANCELLED, "coalesce(job.finished_at, job.created_at)"),
    JobState.DEAD: ("job.status = 'failed'", "job.finished_at"),
}
# Dead letters wait for a person, so they go only when named.
PRUNED = (JobState.COMPLETED, JobState.CANCELLED)

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def prune(
    database: Database,
    *,
    older_than: timedelta,
    states: Iterable[str] = PRUNED,
    batch_size: int = 1000,
    limit: int | None = None,
) -> dict[str, int]:
    """Delete jobs in ``states`` that ended longer ago than ``older_than``; state → how many.

    The oldest first, at most ``limit`` in all. Each batch is a transaction of its own, so it never holds
    many locks and what was deleted stays deleted when it is stopped. Jobs that somebody has locked are
    passed over. Raises :class:`InvalidInput` for a state that is not an end.
    """
    wanted = [_final(state) for state in dict.fromkeys(states)]
    if older_than < timedelta(0):
        raise InvalidInput(f"Jobs are pruned by an age of zero or more, got {older_than}.")
    if batch_size < 1:
        raise InvalidInput(f"A batch has at least one job, got {batch_size}.")
    deleted = dict.fromkeys(map(str, wanted), 0)
    for state in wanted:
        left = None if limit is None else limit - sum(deleted.values())
        deleted[state] = await _prune(database, state, older_than, batch_size, left)
    return deleted


async def _prune(
    database: Database, state: JobState, older_than: timedelta, batch_size: int, limit: int | None
) -> int:
    ended, time = _ENDED[state]
    statement = _statements.delete_batch.replace("{ended}", ended).replace("{time}", time)
    since, total = _BEGINNING, 0
    passed: list[int] = []
    while limit is None or total < limit:
        size = batch_size if limit is None else min(batch_size, limit - total)
        values = {"since": since, "age": older_than.total_seconds(), "size": size, "passed": passed}
        deleted, until, left = await until_it_passes(partial(_delete, database, statement, values))
        total += deleted
        passed += left
        if until is None:
            break
        # Not "later than": others may have ended in the same moment.
        since = until
    return total


async def _delete(
    database: Database, statement: str, values: dict[str, Any]
) -> tuple[int, datetime | None, list[int]]:
    """How many went, how far the look came (None: there was nothing left), and what was passed over."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values)
        deleted, until, passed = await cursor.fetchone() or (0, None, [])
    return deleted, until, passed


def _final(state: str) -> JobState:
    if state not in _ENDED:
        raise InvalidInput(
            f"Jobs in the state {state!r} are not pruned.", hint=f"Expected one of: {', '.join(_ENDED)}."
        )
    return JobState(state)
