"""The ``embed`` and ``backfill`` jobs: give chunks their vectors.

Both are batch handlers of the same code: what lacks a vector is looked up for many jobs at once, vectors of
equal texts are reused, and the rest goes into the model's lane (``lane.py``), where texts of many jobs travel
together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a field of the payload

from pydantic import BaseModel, ConfigDict, model_validator

from docyard_queue import Attempt, AttemptBatch, Cancel, Done
from docyard_queue.arrivals import may_come
from docyard_queue.bulk import enqueue_many
from docyard_schema import ModelRepository, VectorRepository
from docyard_schema.embeddings import ChunkRange, IndexOptions
from docyard_workers.embed.allowance import Allowance
from docyard_workers.embed.index_job import BuildIndex
from docyard_workers.embed.lane import Lane
from docyard_workers.embed.requests import Requests
from docyard_workers.embed.setbacks import Setbacks
from docyard_workers.embed.storing import Storing
from docyard_workers.embed.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue import Backoff, Registry
    from docyard_schema import Connection, Database, EmbeddingModel
    from docyard_schema.embeddings import MissingVector
    from docyard_workers.embed.providers import EmbeddingProvider, Providers

QUEUE = "embed"
KIND = "embed"
BACKFILL_QUEUE = "migrate"
BACKFILL_KIND = "backfill"
# The kind and the queue of the jobs that bring documents.
_INGEST = "ingest"
# Texts that one process holds: enough for several requests on their way and one to be filled.
_TEXTS = 16_384


class EmbedPayload(BaseModel):
    """What the job is told: a document whose chunks lack vectors, or a range of chunk ids, both ends
    included.

    ``model`` is the registered name; None: the one that is active when the job runs.
    """

    model_config = ConfigDict(extra="ignore")

    document_id: UUID | None = None
    first: int | None = None
    last: int | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _names_chunks(self) -> EmbedPayload:
        if (self.document_id is None) == (self.first is None or self.last is None):
            raise ValueError("expected either document_id, or first and last")
        return self


class Embed:
    """Handles jobs that need vectors, with the providers of the models that they name."""

    def __init__(
        self,
        database: Database,
        providers: Providers,
        *,
        backoff: Backoff,
        longest_wait: float,
        daily_ceiling: Decimal | None = None,
        index: IndexOptions | None = None,
    ) -> None:
        self._database = database
        self._index = BuildIndex(database, index or IndexOptions())
        self._providers = providers
        self._backoff = backoff
        self._longest_wait = longest_wait
        self._daily_ceiling = daily_ceiling
        self._models = ModelRepository(database)
        self._vectors = VectorRepository(database)
        self._lanes: dict[int, Lane] = {}
        # The kinds of jobs that brought texts for a model: more of them may come.
        self._kinds: dict[int, set[str]] = {}
        self._opening = asyncio.Lock()

    def register(self, registry: Registry) -> None:
        """Add the handlers to a registry."""
        for kind, queue in ((KIND, QUEUE), (BACKFILL_KIND, BACKFILL_QUEUE)):
            register = registry.batch_handler(
                kind, queue=queue, size=_TEXTS, max_attempts=20, backoff=self._backoff
            )
            register(self.run)
        self._index.register(registry, self._backoff)

    async def model(self) -> EmbeddingModel:
        """The active model; without one yet, the one that the settings ask for becomes it.

        Raises :class:`ModelMismatch` when the settings ask for one that is not registered while another is
        active: whoever changed them expects its vectors.
        """
        configured = self._providers.configured
        await configured.start()
        return await self._models.use(configured.model, settings=self._providers.settings)

    async def run(self, batch: AttemptBatch, payloads: Sequence[EmbedPayload]) -> None:
        """Embed what the documents or ranges of these jobs lack; returns when each job has ended."""
        by_model: dict[str | None, list[tuple[Attempt, EmbedPayload]]] = {}
        for attempt, payload in zip(batch, payloads, strict=True):
            by_model.setdefault(payload.model, []).append((attempt, payload))
        works: list[Work] = []
        try:
            for name, jobs in by_model.items():
                try:
                    works += await self._begin(batch, name, jobs)
                except Exception as error:  # noqa: BLE001 - another model's jobs go on
                    for attempt, _ in jobs:
                        batch.settle(attempt, error)
            await asyncio.gather(*(work.over for work in works))
        finally:
            # Of a call that was cut off nobody waits for the texts any more.
            for work in works:
                work.end()

    async def close(self) -> None:
        """Send no more; wait a little for what is on its way."""
        for lane in self._lanes.values():
            await lane.close()

    async def _named(self, kind: str, name: str | None) -> EmbeddingModel | None:
        if kind == BACKFILL_KIND and name is not None:
            # A migration means the model that it names, whatever the settings ask for.
            return await self._models.get(name)
        active = await self.model()
        return active if name in (None, active.name) else await self._models.get(name or "")

    async def _begin(
        self, batch: AttemptBatch, name: str | None, jobs: Sequence[tuple[Attempt, EmbedPayload]]
    ) -> list[Work]:
        kind = jobs[0][0].job.kind
        model = await self._named(kind, name)
        if model is None:
            for attempt, _ in jobs:
                batch.settle(attempt, Cancel(f"the model {name} was dropped"))
            return []
        lane = await self._lane(model)
        self._kinds.setdefault(model.id, set()).add(kind)
        of_document: dict[UUID, list[Work]] = {}
        works: list[Work] = []
        with lane.reading():  # until the last of them is read
            for attempt, payload in jobs:
                work = Work(attempt, partial(batch.settle, attempt))
                works.append(work)
                if payload.document_id is not None:
                    of_document.setdefault(payload.document_id, []).append(work)
                elif payload.first is not None and payload.last is not None:
                    await self._look(lane, model, ChunkRange(first=payload.first, last=payload.last), work)
            if of_document:
                await self._look(lane, model, [*of_document], of_document)
        for work in works:
            if not work.left and not work.writing:
                work.end(Done(work.result(lambda _: Decimal(0))))
        return works

    async def _look(
        self,
        lane: Lane,
        model: EmbeddingModel,
        chunks: Sequence[UUID] | ChunkRange,
        works: Work | dict[UUID, list[Work]],
    ) -> None:
        """Reuse what is stored; give the lane what these chunks lack then."""

        def works_of(chunk: MissingVector) -> Sequence[Work]:
            return [works] if isinstance(works, Work) else works[chunk.document_id]

        with lane.reading() as reading:
            at_first: list[MissingVector] | None = None
            while True:
                reading.stored.clear()
                missing = await self._vectors.missing(model, chunks)
                at_first = missing if at_first is None else at_first
                if missing and await self._vectors.reuse(model, chunks):
                    missing = await self._vectors.missing(model, chunks)
                overtaken = lane.overtaken(missing, reading)
                if overtaken is None:
                    break
                if overtaken:
                    await asyncio.wait(overtaken)
            still = {chunk.chunk_id for chunk in missing}
            reused = Counter(
                work for chunk in at_first if chunk.chunk_id not in still for work in works_of(chunk)
            )
            for work, count in reused.items():
                work.reused += count
            lane.add(missing, works_of)

    async def _lane(self, model: EmbeddingModel) -> Lane:
        async with self._opening:
            lane = self._lanes.get(model.id)
            if lane is None:
                provider = await self._providers.of(model)
                lane = self._lanes[model.id] = self._open(model, provider)
            return lane

    def _open(self, model: EmbeddingModel, provider: EmbeddingProvider) -> Lane:
        allowance = Allowance(self._database, provider, daily_ceiling=self._daily_ceiling)
        storing = Storing(
            self._database,
            model,
            self._vectors,
            cost_of=allowance.cost_of,
            beside=partial(self._want_index, model),
        )
        lane = Lane(
            provider.limits,
            may_come=partial(self._more_may_come, model),
            longest_wait=self._longest_wait if provider.limits.pays_per_request else 0.0,
        )
        setbacks = Setbacks(self._database, lane, allowance, storing, backoff=self._backoff)
        lane.send = Requests(provider, lane, allowance, self._vectors, storing, setbacks).send
        return lane

    async def _more_may_come(self, model: EmbeddingModel) -> bool:
        kinds = self._kinds[model.id]
        queues = [_INGEST, *(QUEUE if kind == KIND else BACKFILL_QUEUE for kind in kinds)]
        return await may_come(self._database, running=[_INGEST], waiting=[_INGEST, *kinds], queues=queues)

    async def _want_index(self, model: EmbeddingModel, connection: Connection) -> None:
        """Enqueue the building of the model's index when it has vectors enough; in the caller's
        transaction.
        """
        job = await self._index.wanted(model)
        if job is not None:
            await enqueue_many(connection, [job], schema=self._database.namespace.schema)
