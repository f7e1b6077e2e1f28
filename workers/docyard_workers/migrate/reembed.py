"""The last job of a reembed: when its ranges have ended it builds the index, verifies, and activates.

Every step looks at what is there before it does anything, so the job may be killed anywhere and run again.
What is missing and on its way (documents that came meanwhile) is waited for; what nobody brings any more is
planned once more; what was given up ends the reembed, and the old model stays.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003 - a field of the payload

import psycopg
from psycopg import sql
from pydantic import BaseModel

from docyard_queue import Cancel, PermanentError, Snooze
from docyard_schema import ModelRepository
from docyard_schema.embeddings import IndexOptions, build_index
from docyard_schema.embeddings.coverage import unhurried
from docyard_schema.embeddings.cut_over import missing
from docyard_schema.embeddings.in_place import filled
from docyard_schema.embeddings.vector_index import ROWS_WORTH_AN_INDEX
from docyard_schema.errors import DatabaseError, VerificationError
from docyard_schema.statements import load_statements
from docyard_workers.migrate.planning import KIND, QUEUE, add_ranges
from docyard_workers.migrate.standing import dead_ranges, last_progress, standing, unfinished_jobs
from docyard_workers.migrate.verification import incomplete, verify

if TYPE_CHECKING:
    from docyard_queue import Attempt, Backoff, Registry
    from docyard_schema import Database, EmbeddingModel

_SOON = timedelta(seconds=1)
_OWNER_SOON = timedelta(seconds=5)
_MOST_ROUNDS = 3

_statements = load_statements("docyard_workers.migrate", "reembed.sql")


class ReembedPayload(BaseModel):
    """What a ``reembed`` job is told: which model, by its name, and whether to activate it at the end."""

    model: str
    activate: bool = True
    batch_id: UUID


class Reembed:
    """Handles ``reembed`` jobs."""

    def __init__(self, database: Database, index: IndexOptions | None = None) -> None:
        self._database = database
        self._index = index or IndexOptions()
        self._models = ModelRepository(database)

    def register(self, registry: Registry, backoff: Backoff | None = None) -> None:
        """Add the handler to a registry; ``backoff`` of None is the registry's default."""
        registry.handler(KIND, queue=QUEUE, max_attempts=20, backoff=backoff)(self.run)

    async def run(self, attempt: Attempt, payload: ReembedPayload) -> Snooze | Cancel | None:
        """Bring the model to its place, or say why not."""
        model = await self._models.get(payload.model)
        if model is None:
            raise PermanentError(
                f"The model {payload.model} was dropped while a reembed to it was under way."
            )
        if (await standing(self._database, payload.batch_id)).cancelled:
            return Cancel("its batch was cancelled")
        active = await self._models.active()
        other = active if active is not None and active.id != model.id else None
        on_their_way = await unfinished_jobs(self._database, model.name)
        async with unhurried(self._database) as connection:
            lacks = await missing(self._database, model, other, except_failed=True, connection=connection)
        if lacks.never_made or lacks.late:
            # Asked before and after: what ended in between is in neither answer.
            on_their_way += await unfinished_jobs(self._database, model.name)
            return await self._complete(attempt, model, payload.batch_id, on_their_way)
        unbuilt = await self._build_index(attempt, model)
        if unbuilt is not None:
            return unbuilt
        await attempt.report_progress(phase="verifying")
        verified = await verify(self._database, model, other)
        return await self._end(attempt, model, verified.as_result(), activate=payload.activate)

    async def _complete(
        self, attempt: Attempt, model: EmbeddingModel, batch_id: UUID, on_their_way: int
    ) -> Snooze:
        """Wait for what is on its way, or bring what nobody brings; raises when neither can help."""
        rounds = int((await last_progress(self._database, attempt.job.id)).get("rounds", 0))
        if not on_their_way:
            if rounds == _MOST_ROUNDS or await dead_ranges(self._database, batch_id, limit=1):
                raise await incomplete(self._database, model, batch_id)
            rounds += 1
            async with unhurried(self._database) as connection:
                await add_ranges(self._database, model, batch_id, connection=connection)
        await attempt.report_progress(phase="waiting", rounds=rounds)
        return Snooze(_SOON, f"Vectors of {model.name} for documents that came meanwhile are being made.")

    async def _build_index(self, attempt: Attempt, model: EmbeddingModel) -> Snooze | None:
        partition = sql.Identifier(self._database.namespace.schema, model.partition)
        async with unhurried(self._database) as connection:
            # A table that was just filled has no statistics, and the first searches would go by none.
            await connection.execute(sql.SQL("ANALYZE {}").format(partition))
            values = {"model": model.id, "rows": ROWS_WORTH_AN_INDEX}
            cursor = await connection.execute(self._database.sql(_statements.worth_an_index), values)
            row = await cursor.fetchone()
        if row is None or not row[0]:
            return None
        await attempt.report_progress(phase="indexing")
        options = self._index
        try:
            await build_index(self._database, model, m=options.m, ef_construction=options.ef_construction)
        except DatabaseError as error:
            if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise
            # Who began the reembed may build it, for who registers a model owns the schema.
            await attempt.report_progress(phase="waiting", reason=error.message)
            return Snooze(_OWNER_SOON, f"{error.message} It is left to a worker of the schema's owner.")
        return None

    async def _end(
        self, attempt: Attempt, model: EmbeddingModel, result: dict[str, Any], *, activate: bool
    ) -> Snooze | None:
        if model.state == "active":
            async with attempt.commit(result | {"status": "active"}) as connection:
                await filled(self._database, model, connection=connection)
            return None
        if not activate:
            async with attempt.commit(result | {"status": "ready"}) as connection:
                await self._models.set_state(model.name, "ready", connection=connection)
            return None
        await attempt.report_progress(phase="activating")
        try:
            # One transaction with the job's end: a job that ran again after a roll-back would undo it.
            async with attempt.commit(result | {"status": "activated"}) as connection:
                await self._models.activate(model.name, connection=connection)
        except VerificationError:
            return Snooze(_SOON, f"Documents came between the verification and the cut-over to {model.name}.")
        return None
