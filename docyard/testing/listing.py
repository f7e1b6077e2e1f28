"""Lists jobs where a test looks for them: in a database, or in a transaction that is still open."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID  # noqa: TC003

import psycopg
from psycopg.rows import class_row

from docyard_schema import Database, DatabaseSettings, InvalidInput, Namespace
from docyard_schema.connection import connection_arguments
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator

_statements = load_statements("docyard.testing", "listing.sql")

# A connection sees the jobs of its own transaction. A Database or a URL is asked on another connection.
Place: TypeAlias = "psycopg.Connection[Any] | Database | str"
AsyncPlace: TypeAlias = "psycopg.AsyncConnection[Any] | Database | str"

WAITING = ("scheduled", "available", "retryable")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedJob:
    """A job as a test sees it; ``unique_key`` of any scope, ``run_at`` the time of its enqueue if none was
    asked for.
    """

    id: int
    kind: str
    queue: str
    state: str
    payload: dict[str, Any]
    priority: int
    run_at: datetime
    attempts: int
    max_attempts: int | None
    lock_key: str | None
    unique_key: str | None
    partition_key: str | None
    batch_id: UUID | None
    created_at: datetime


def enqueued(
    place: Place, kind: str | None = None, *, state: str | None = None, schema: str = "docyard"
) -> list[EnqueuedJob]:
    """The jobs that wait, the oldest first, of any ``kind`` when it is None.

    ``place`` is a psycopg connection (which sees the jobs of its open transaction), a :class:`Database` or a
    URL. ``state`` names another state than waiting; ``"any"`` is all of them. A connection does not know
    docyard's ``schema``, a Database does.
    """
    found = list_jobs(place, kind, schema)
    return [job for job in found if is_in(job, state)]


async def enqueued_async(
    place: AsyncPlace, kind: str | None = None, *, state: str | None = None, schema: str = "docyard"
) -> list[EnqueuedJob]:
    """:func:`enqueued` where an asynchronous connection has the open transaction."""
    return [job for job in await list_jobs_async(place, kind, schema) if is_in(job, state)]


def is_in(job: EnqueuedJob, state: str | None) -> bool:
    """Whether it is in the state that was asked for; None is waiting."""
    return state == "any" or (job.state in WAITING if state is None else job.state == state)


def list_jobs(place: Place, kind: str | None, schema: str) -> list[EnqueuedJob]:
    """All jobs of a kind, whatever their state."""
    with _connected(place) as connection:
        cursor = psycopg.Cursor(connection, row_factory=class_row(EnqueuedJob))
        return cursor.execute(*_question(place, kind, schema)).fetchall()


async def list_jobs_async(place: AsyncPlace, kind: str | None, schema: str) -> list[EnqueuedJob]:
    """:func:`list_jobs` on an asynchronous connection."""
    if not isinstance(place, psycopg.AsyncConnection):
        return list_jobs(place, kind, schema)
    async with psycopg.AsyncCursor(place, row_factory=class_row(EnqueuedJob)) as cursor:
        await cursor.execute(*_question(place, kind, schema))
        return await cursor.fetchall()


def _question(place: Place | AsyncPlace, kind: str | None, schema: str) -> tuple[bytes, dict[str, Any]]:
    namespace = place.namespace if isinstance(place, Database) else Namespace(schema)
    return namespace.sql(_statements.list_jobs), {"kind": kind}


@contextmanager
def _connected(place: Place) -> Iterator[psycopg.Connection[Any]]:
    if isinstance(place, psycopg.Connection):
        yield place
        return
    if isinstance(place, psycopg.AsyncConnection):
        raise InvalidInput(
            "An asynchronous connection cannot be asked without await.",
            hint="Use the function whose name ends in _async: await assert_enqueued_async(connection, …)",
        )
    # A short look that blocks: so the same words serve sync and async tests.
    url, settings = (place, DatabaseSettings()) if isinstance(place, str) else (place.url, place.settings)
    with psycopg.connect(**connection_arguments(url, settings)) as connection:
        yield connection
