"""Retries and cancels all jobs that fit a filter, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta  # noqa: TC003
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003

from docyard_queue import inspection
from docyard_queue.collisions import until_keys_fit
from docyard_queue.states import JobState
from docyard_schema.errors import InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_queue", "selection.sql")

_PUT_OFF = "job.status = 'todo' AND job.scheduled_at > docyard.clock()"
_STORED = {
    JobState.SCHEDULED: f"{_PUT_OFF} AND job.attempts = 0",
    JobState.AVAILABLE: f"job.status = 'todo' AND ({_PUT_OFF}) IS NOT TRUE",
    JobState.RUNNING: "job.status = 'doing'",
    JobState.RETRYABLE: f"{_PUT_OFF} AND job.attempts > 0",
    JobState.CANCELLED: "job.status IN ('cancelled', 'aborting', 'aborted')",
    JobState.DEAD: "job.status = 'failed'",
}


class Change(StrEnum):
    """What can be done to many jobs."""

    RETRY = "retry"
    CANCEL = "cancel"


# The states that each can be done to; without a state it is done to the first tuple's.
_USUAL = {
    Change.RETRY: (JobState.DEAD, JobState.CANCELLED, JobState.RETRYABLE),
    Change.CANCEL: (JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE, JobState.RUNNING),
}
_POSSIBLE = _USUAL | {Change.RETRY: (*_USUAL[Change.RETRY], JobState.SCHEDULED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Jobs that fit all that is given; None is any.

    ``older_than`` counts from a job's end, or from its enqueueing while it has not ended.
    """

    state: str | None = None
    kind: str | None = None
    queue: str | None = None
    batch_id: UUID | None = None
    older_than: timedelta | None = None


async def count_selected(database: Database, change: Change, selection: Selection) -> int:
    """How many jobs :func:`change_selected` would choose at this moment."""
    statement = _with_states(_statements.count_jobs, change, selection)
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), _values(selection))
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def change_selected(
    database: Database,
    change: Change,
    selection: Selection,
    *,
    limit: int | None = None,
    batch_size: int = 1000,
) -> list[int]:
    """Retry or cancel the jobs that fit, the oldest first, at most ``limit``; returns their ids.

    Without a state a retry takes the dead, the cancelled and those in their backoff; a cancel all that have
    not ended. Jobs enqueued after the call began are left alone. Each batch is a transaction of its own:
    what it changed stays changed if a later one fails. Raises :class:`InvalidInput` for a state whose jobs
    cannot be changed so.
    """
    statement = _with_states(_statements.choose, change, selection)
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.newest_id))
        [newest] = await cursor.fetchone() or [0]
    values = _values(selection) | {"after": 0, "newest": newest}
    changed: list[int] = []
    while limit is None or len(changed) < limit:
        values["size"] = batch_size if limit is None else min(batch_size, limit - len(changed))
        chosen, done = await _batch(database, change, statement, values)
        changed += done
        if len(chosen) < values["size"]:
            break
        values["after"] = chosen[-1]
    return changed


async def _batch(
    database: Database, change: Change, choose: str, values: dict[str, Any]
) -> tuple[list[int], list[int]]:
    """Ids chosen and ids changed, in one transaction that is tried again when it met another."""

    async def transaction(give_up_keys: bool) -> tuple[list[int], list[int]]:
        async with database.transaction() as connection:
            cursor = await connection.execute(database.sql(choose), values)
            chosen = [row[0] for row in await cursor.fetchall()]
            return chosen, await _apply(database, connection, change, chosen, give_up_keys=give_up_keys)

    return await until_keys_fit(transaction)


async def _apply(
    database: Database, connection: Connection, change: Change, job_ids: list[int], *, give_up_keys: bool
) -> list[int]:
    known = inspection.statements
    statement = known.retry if change is Change.RETRY else known.cancel
    cursor = await connection.execute(database.sql(statement), {"ids": job_ids, "give_up_keys": give_up_keys})
    changed = sorted(row[0] for row in await cursor.fetchall())
    if change is Change.RETRY and changed:
        await connection.execute(database.sql(known.revive_batches), {"ids": changed})
        await connection.execute(database.sql(known.wake), {"id": changed[0]})
    return changed


def _with_states(statement: str, change: Change, selection: Selection) -> str:
    states = _USUAL[change]
    if selection.state is not None:
        possible = _POSSIBLE[change]
        if selection.state not in possible:
            raise InvalidInput(
                f"Jobs in the state {selection.state!r} cannot be chosen to {change}.",
                hint=f"Expected one of: {', '.join(possible)}.",
            )
        states = (JobState(selection.state),)
    return statement.replace("{states}", f"({' OR '.join(f'({_STORED[state]})' for state in states)})")


def _values(selection: Selection) -> dict[str, Any]:
    older = selection.older_than
    return {
        "kind": selection.kind,
        "queue": selection.queue,
        "batch": selection.batch_id,
        "age": None if older is None else older.total_seconds(),
    }
