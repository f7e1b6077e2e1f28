"""The ``embed`` job: gives a document's chunks their vectors.

Vectors of equal texts are reused; only what is left is sent. One transaction writes the vectors of a request
and notes the texts that the model refused; that of the last request completes the job.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a field of the payload

from pydantic import BaseModel, ConfigDict

from docyard_queue import Attempt, Done, RateLimited
from docyard_schema import ModelRepository, VectorRepository
from docyard_schema.embeddings import IndexOptions
from docyard_workers.embed import errors
from docyard_workers.embed.index_job import BuildIndex
from docyard_workers.embed.requests import Answered, ask

if TYPE_CHECKING:
    from docyard_queue import Backoff, Registry
    from docyard_schema import Connection, Database, EmbeddingModel
    from docyard_workers.embed.providers import EmbeddingProvider, Providers

QUEUE = "embed"
KIND = "embed"


class EmbedPayload(BaseModel):
    """What an ``embed`` job is told: the document whose chunks lack vectors."""

    model_config = ConfigDict(extra="ignore")

    document_id: UUID


class Embed:
    """Handles ``embed`` jobs with the provider of the database's active model."""

    def __init__(self, database: Database, providers: Providers, index: IndexOptions | None = None) -> None:
        self._database = database
        self._index = BuildIndex(database, index or IndexOptions())
        self._providers = providers
        self._provider: EmbeddingProvider = providers.configured
        self._models = ModelRepository(database)
        self._vectors = VectorRepository(database)
        self._model: EmbeddingModel | None = None
        self._choosing = asyncio.Lock()

    def register(self, registry: Registry, backoff: Backoff | None = None) -> None:
        """Add the handlers to a registry; ``backoff`` of None is the registry's default."""
        registry.handler(KIND, queue=QUEUE, max_attempts=20, backoff=backoff)(self.run)
        self._index.register(registry, backoff)

    async def model(self) -> EmbeddingModel:
        """The active model, which the provider must be of; raises :class:`ModelMismatch` naming both."""
        async with self._choosing:
            if self._model is None:
                configured = self._providers.configured
                await configured.start()
                model = await self._models.use(configured.model, settings=self._providers.settings)
                self._provider = await self._providers.of(model)
                self._model = model
            return self._model

    async def run(self, attempt: Attempt, payload: EmbedPayload) -> Done | None:
        """Embed what one document lacks."""
        model = await self.model()
        documents = [payload.document_id]
        pending = await self._vectors.pending(model, documents)
        reused = await self._vectors.reuse(model, documents) if pending else 0
        if reused:
            pending = await self._vectors.pending(model, documents)
        if not pending:
            return Done({"embedded": 0, "reused": reused})
        result = {"embedded": 0, "reused": reused, "failed": 0, "tokens": 0}
        answered: Answered | None = None
        try:
            async for answered in ask(self._provider, pending):
                result["embedded"] += len(answered.vectors)
                result["failed"] += len(answered.failures)
                result["tokens"] += answered.tokens
                if not answered.is_last:
                    # Whatever becomes of this attempt, the next one does not send these texts again.
                    async with self._database.transaction() as connection:
                        await self._write(model, answered, connection)
        except errors.RateLimited as error:
            raise RateLimited(error.message, retry_after=error.retry_after, hint=error.hint) from error
        async with attempt.commit(result) as connection:
            if answered is not None:
                await self._write(model, answered, connection)
            job = await self._index.wanted(model)
            if job is not None:
                await attempt.enqueue(job, connection=connection)
        return None

    async def _write(self, model: EmbeddingModel, answered: Answered, connection: Connection) -> None:
        if answered.vectors:
            await self._vectors.write(model, answered.vectors, connection=connection)
        if answered.failures:
            await self._vectors.record_failures(model, answered.failures, connection=connection)
