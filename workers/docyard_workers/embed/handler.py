"""The ``embed`` job: gives a document's chunks their vectors.

Vectors of equal texts are reused; only what is left is sent. One transaction writes the vectors, notes the
texts that the model refused, and completes the job.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a field of the payload

from pydantic import BaseModel, ConfigDict

from docyard_queue import Attempt, Done, NewJob, RateLimited
from docyard_schema import ModelRepository, VectorRepository
from docyard_schema.embeddings import NewVector, build_index, index_is_due
from docyard_workers.embed import errors
from docyard_workers.embed.packing import pack

if TYPE_CHECKING:
    from docyard_queue import Registry
    from docyard_schema import Database, EmbeddingModel
    from docyard_schema.embeddings import PendingChunk
    from docyard_workers.embed.providers import EmbeddingProvider

QUEUE = "embed"
KIND = "embed"
INDEX_KIND = "build_vector_index"
_SECONDS_BETWEEN_INDEX_CHECKS = 30


class EmbedPayload(BaseModel):
    """What an ``embed`` job is told: the document whose chunks lack vectors."""

    model_config = ConfigDict(extra="ignore")

    document_id: UUID


class IndexPayload(BaseModel):
    """What a ``build_vector_index`` job is told: the model's name."""

    model: str


class Embed:
    """Handles ``embed`` jobs with one provider, whose model must be the database's active one."""

    def __init__(self, database: Database, provider: EmbeddingProvider) -> None:
        self._database = database
        self._provider = provider
        self._models = ModelRepository(database)
        self._vectors = VectorRepository(database)
        self._model: EmbeddingModel | None = None
        self._choosing = asyncio.Lock()
        self._checked_index = 0.0

    def register(self, registry: Registry) -> None:
        """Add the handlers to a registry."""
        registry.handler(KIND, queue=QUEUE, max_attempts=20)(self.run)
        registry.handler(INDEX_KIND, queue="maintain", max_attempts=3)(self.build_index)

    async def model(self) -> EmbeddingModel:
        """The active model, which the provider must be of; raises :class:`ModelMismatch` naming both."""
        async with self._choosing:
            if self._model is None:
                await self._provider.start()
                self._model = await self._models.use(self._provider.model)
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
        vectors, failures, tokens = await self._ask(pending)
        result = {"embedded": len(vectors), "reused": reused, "failed": len(failures), "tokens": tokens}
        async with attempt.commit(result) as connection:
            if vectors:
                await self._vectors.write(model, vectors, connection=connection)
            if failures:
                await self._vectors.record_failures(model, failures, connection=connection)
            if await self._wants_index(model):
                job = NewJob(INDEX_KIND, {"model": model.name}, queue="maintain", unique_key=INDEX_KIND)
                await attempt.enqueue(job, connection=connection)
        return None

    async def build_index(self, attempt: Attempt, payload: IndexPayload) -> None:
        """Build the active model's vector index, unless another job did so meanwhile."""
        model = await self._models.active()
        if model is not None and model.name == payload.model and await index_is_due(self._database, model):
            await build_index(self._database, model)

    async def _ask(
        self, pending: list[PendingChunk]
    ) -> tuple[list[NewVector], list[tuple[int, str, str]], int]:
        # Equal texts within the document travel once.
        by_text: dict[bytes, list[PendingChunk]] = {}
        for chunk in pending:
            by_text.setdefault(chunk.content_hash, []).append(chunk)
        vectors: list[NewVector] = []
        failures: list[tuple[int, str, str]] = []
        tokens = 0
        for group in pack([chunks[0] for chunks in by_text.values()], self._provider):
            try:
                answer = await self._provider.embed([chunk.input for chunk in group])
            except errors.RateLimited as error:
                raise RateLimited(error.message, retry_after=error.retry_after, hint=error.hint) from error
            tokens += answer.tokens
            for position, (first, vector) in enumerate(zip(group, answer.vectors, strict=True)):
                for chunk in by_text[first.content_hash]:
                    if vector is not None:
                        vectors.append(
                            NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=vector)
                        )
                    else:
                        failure = answer.failures[position]
                        failures.append((chunk.id, failure.code, failure.message))
        return vectors, failures, tokens

    async def _wants_index(self, model: EmbeddingModel) -> bool:
        # The answer changes a few times in a database's life; asking for every document would be waste.
        now = time.monotonic()
        if now - self._checked_index < _SECONDS_BETWEEN_INDEX_CHECKS:
            return False
        self._checked_index = now
        return await index_is_due(self._database, model)
