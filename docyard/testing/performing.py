"""Runs one handler in the test's own process, as a worker would."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from docyard.testing.inline_worker import InlineWorker
from docyard_schema import Database, InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import psycopg
    from pydantic import BaseModel

    from docyard.testing.crashing import Crash
    from docyard.testing.performed import Performed
    from docyard_queue import Job, NewJob, Registry
    from docyard_schema import Connection

_statements = load_statements("docyard.testing", "performing.sql")


async def perform(
    database: Database,
    registry: Registry,
    kind: str,
    payload: Mapping[str, Any] | BaseModel | None = None,
    *,
    attempt: int = 1,
    connection: Connection | None = None,
    crash: Crash | None = None,
    **options: Any,
) -> Performed:
    """Run the handler of a kind once, on a job of its own, and say what became of it.

    A batch handler is called with this job alone (:func:`perform_batch`).

    Everything is as in a worker: the payload is stored and read back, the handler may commit through its
    attempt, what it raises is classified, the outcome is written. ``attempt`` is the number of the attempt;
    ``options`` are those of a :class:`NewJob` that say what it is (``queue``, ``max_attempts``, ``timeout``,
    ``batch_id`` and the like). Neither a pause nor a limit of its queue keeps it from running.

    With ``connection``, in a transaction of the caller's, all that goes through the attempt happens in that
    transaction, in savepoints, and is undone with it; sync handlers cannot commit there. ``crash`` ends the
    attempt at a point (:func:`crash_at`); then the job is left as a killed worker leaves it.
    Raises :class:`UnknownKind`, and :class:`InvalidInput` for options that a job cannot have here.
    """
    job = registry.job(kind, payload, **options)
    _require_now(job, attempt, crash, connection)
    place = database if connection is None else _Joined(database, connection)
    async with InlineWorker(place, sync_connections=connection is None) as worker:
        claimed = await _claim(place, registry, job, worker, attempt)
        done = await worker.attempt(registry[kind], claimed, crash)
        if claimed.batch_id is not None and done.outcome != "crashed":
            await worker.engine.close_batches({claimed.batch_id})
        return done


async def perform_batch(
    database: Database,
    registry: Registry,
    kind: str,
    payloads: Sequence[Mapping[str, Any] | BaseModel],
    *,
    attempt: int = 1,
    crash: Crash | None = None,
    **options: Any,
) -> list[Performed]:
    """Call the batch handler of a kind once with a job for each payload, and say what became of each.

    The arguments are those of :func:`perform`. Raises :class:`InvalidInput` for a handler that takes one job
    at a time.
    """
    if registry[kind].batch is None:
        raise InvalidInput(f"The handler of {kind!r} takes one job at a time.", hint="Use perform().")
    async with InlineWorker(database) as worker:
        jobs = []
        for payload in payloads:
            job = registry.job(kind, payload, **options)
            _require_now(job, attempt, crash, None)
            jobs.append(await _claim(database, registry, job, worker, attempt))
        done = await worker.batch(registry[kind], jobs, crash)
        await worker.engine.close_batches({job.batch_id for job in jobs if job.batch_id is not None})
        return done


async def _claim(place: Database, registry: Registry, job: NewJob, worker: InlineWorker, number: int) -> Job:
    # In a queue of its own and one transaction: no pause, no limit, no other worker comes between.
    apart = replace(job, queue=f"perform {os.urandom(8).hex()}", partition_key=None)
    kinds = {job.kind: registry[job.kind].max_attempts}
    async with place.transaction() as connection:
        joined = _Joined(place, connection)
        engine = type(worker.engine)(joined)
        [job_id] = await engine.enqueue([apart])
        values = {"id": job_id, "attempts": number - 1, "queue": job.queue, "key": job.partition_key}
        await connection.execute(place.sql(_statements.set_attempts), values)
        taken = await engine.claim(worker.id, slots=1, kinds=kinds, queues=[apart.queue])
        if not taken:
            raise InvalidInput(f"The {job.kind!r} job cannot run now.", hint="Is its batch paused?")
        await connection.execute(place.sql(_statements.set_place), values)

    return taken[0]._replace(queue=job.queue, partition_key=job.partition_key, weight=job.weight or 1.0)


def _require_now(job: NewJob, attempt: int, crash: Crash | None, connection: object) -> None:
    for name in ("run_at", "unique_key", "lock_key"):
        if getattr(job, name) is not None:
            raise InvalidInput(
                f"perform() runs a job of its own at once: {name} means nothing to it.",
                hint="Enqueue the job and drain() to see it wait for its turn.",
            )
    if attempt < 1:
        raise InvalidInput(f"Attempts are counted from 1, got {attempt}.")
    if crash is not None and connection is not None:
        raise InvalidInput(
            "A process that is killed takes its transaction along: a crash cannot be in the caller's.",
            hint="Leave connection out.",
        )


class _Joined(Database):
    """A database of which everything happens in one transaction, the caller's."""

    def __init__(self, database: Database, connection: Connection) -> None:
        super().__init__(
            database.pool, database.namespace, database.settings, url=database.url, owns_pool=False
        )
        self._joined = connection

    @override
    @asynccontextmanager
    async def connection(self, joined: Connection | None = None) -> AsyncIterator[Connection]:
        if joined is not None:
            async with super().connection(joined) as opened:
                yield opened
            return
        # A savepoint: what fails here must not fail the caller's transaction.
        async with super().connection(self._joined) as opened, opened.transaction():
            yield opened

    @override
    @asynccontextmanager
    async def transaction(
        self, joined: Connection | None = None, *, isolation: psycopg.IsolationLevel | None = None
    ) -> AsyncIterator[Connection]:
        async with super().transaction(joined or self._joined, isolation=isolation) as opened:
            yield opened
