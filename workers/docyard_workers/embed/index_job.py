"""The ``build_vector_index`` job: builds a model's vector index when there are enough vectors for one."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel

from docyard_queue import Attempt, NewJob
from docyard_schema import ModelRepository
from docyard_schema.embeddings import IndexOptions, build_index, index_is_due

if TYPE_CHECKING:
    from docyard_queue import Backoff, Registry
    from docyard_schema import Database, EmbeddingModel

KIND = "build_vector_index"
QUEUE = "maintain"
_SECONDS_BETWEEN_CHECKS = 30
_BETWEEN_JOBS = timedelta(hours=1)


class IndexPayload(BaseModel):
    """What a ``build_vector_index`` job is told: the model's name."""

    model: str


class BuildIndex:
    """Handles ``build_vector_index`` jobs, and says when one is wanted."""

    def __init__(self, database: Database, options: IndexOptions) -> None:
        self._database = database
        self._options = options
        self._models = ModelRepository(database)
        self._checked: dict[int, float] = {}

    def register(self, registry: Registry, backoff: Backoff | None = None) -> None:
        """Add the handler to a registry; ``backoff`` of None is the registry's default."""
        registry.handler(KIND, queue=QUEUE, max_attempts=3, backoff=backoff)(self.run)

    async def run(self, attempt: Attempt, payload: IndexPayload) -> None:
        """Build the index of a model that is kept, unless another job did so meanwhile."""
        model = await self._models.get(payload.model)
        if model is not None and model.state != "failed" and await index_is_due(self._database, model):
            await build_index(
                self._database, model, m=self._options.m, ef_construction=self._options.ef_construction
            )

    async def wanted(self, model: EmbeddingModel) -> NewJob | None:
        """The job to enqueue when the model's index is due; None when not, or when that was asked lately.

        A model that is being filled gets its index at the end, from its migration: with one, every vector
        costs twenty times as much to write.
        """
        # The answer changes a few times in a database's life; asking for every document would be waste.
        now = time.monotonic()
        if now - self._checked.get(model.id, -_SECONDS_BETWEEN_CHECKS) < _SECONDS_BETWEEN_CHECKS:
            return None
        self._checked[model.id] = now
        now_registered = await self._models.get(model.name)  # it may have become active since
        if now_registered is None or now_registered.state not in ("active", "retired"):
            return None
        if not await index_is_due(self._database, model):
            return None
        # Once an hour: where no worker may build an index, there would be dead letters without end.
        return NewJob(
            KIND,
            {"model": model.name},
            queue=QUEUE,
            unique_key=f"{KIND} {model.name}",
            unique_for=_BETWEEN_JOBS,
        )
