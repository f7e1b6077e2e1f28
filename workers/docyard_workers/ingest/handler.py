"""The ``ingest`` job: from a source to a stored document, its chunks, and the ``embed`` job that follows.

source → bytes → hash (unchanged: done) → text and chunks in a child process → one transaction that writes
the version and the chunks, enqueues ``embed`` (and ``backfill`` for each model that is kept beside the active
one) and completes the job.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from docyard_queue import Attempt, Done, NewJob
from docyard_schema import DocumentRepository, ModelRepository, NewDocument
from docyard_schema.documents import identify
from docyard_workers.ingest.original import exact_text
from docyard_workers.ingest.sources import SourceBytes, read_source
from docyard_workers.ingest.text_search_language import text_search_language

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_queue import Backoff, Registry
    from docyard_schema import Database, EmbeddingModel, Stored
    from docyard_workers.ingest.isolation import ChildPool
    from docyard_workers.ingest.preparation import ChunkOptions, ParsedAndChunked

QUEUE = "ingest"
KIND = "ingest"
# Part of every stored version: raise it when parsing or chunking changes what comes out, and the next
# ingest of the same bytes does its work again.
PIPELINE = "1"


class IngestPayload(BaseModel):
    """What an ``ingest`` job is told: a path or URI, and the collection it goes into.

    ``tags`` and ``metadata`` are the producer's own, kept beside what the file says of itself. Tags of None
    leave those that the document has.
    """

    model_config = ConfigDict(extra="ignore")

    source: str = Field(min_length=1)
    collection: str = Field("default", min_length=1)
    tags: list[str] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class Ingest:
    """Handles ``ingest`` jobs with a pool of parser processes."""

    def __init__(
        self, database: Database, parsers: ChildPool, chunking: ChunkOptions, max_bytes: int
    ) -> None:
        self._documents = DocumentRepository(database)
        self._models = ModelRepository(database)
        self._parsers = parsers
        self._chunking = chunking
        self._max_bytes = max_bytes
        self._pipeline = f"{PIPELINE}/{chunking.size}/{chunking.overlap}"

    def register(self, registry: Registry, backoff: Backoff | None = None) -> None:
        """Add the handler to a registry; ``backoff`` of None is the registry's default."""
        registry.handler(KIND, queue=QUEUE, max_attempts=5, backoff=backoff)(self.run)

    async def run(self, attempt: Attempt, payload: IngestPayload) -> Done | None:
        """Ingest one source; the job's result says what became of it."""
        source = await asyncio.to_thread(read_source, payload.source, self._max_bytes)
        sha256 = hashlib.sha256(source.data).digest()
        stored = await self._documents.current(payload.collection, source.uri)
        if stored == (sha256, self._pipeline) and not await self._says_more(payload, source.uri):
            return Done({"status": "unchanged"})
        parsed = await self._parsers.parse(source.data, None, source.name, self._chunking)
        tags = payload.tags
        if tags is None and stored is not None:
            known = await self._documents.find(payload.collection, source.uri)
            tags = known.tags if known is not None else None
        document = self._document(payload, source, sha256, parsed, tags or [])
        language = text_search_language(parsed.document.language)
        chunks = identify(((chunk.heading_path, chunk.text) for chunk in parsed.chunks), language=language)
        result: dict[str, Any] = {"status": "created" if stored is None else "updated", "chunks": len(chunks)}
        async with attempt.commit(result) as connection:
            written = await self._documents.store(document, chunks, connection=connection)
            # A removed document may come back without a new chunk, and lack a model registered meanwhile.
            if written.added or (stored is None and written.kept):
                # Asked for after the chunks were written: a model that is registered at this moment waits for
                # us, or is among them.
                models = await self._models.kept(connection=connection)
                await attempt.enqueue(*embed_jobs(written, models, attempt), connection=connection)
        return None

    async def _says_more(self, payload: IngestPayload, uri: str) -> bool:
        """Whether the payload has tags or metadata that the stored document has not."""
        if payload.tags is None and not payload.metadata:
            return False
        known = await self._documents.find(payload.collection, uri)
        return (
            known is None
            or (payload.tags is not None and payload.tags != known.tags)
            or not payload.metadata.items() <= known.metadata.items()
        )

    def _document(
        self,
        payload: IngestPayload,
        source: SourceBytes,
        sha256: bytes,
        parsed: ParsedAndChunked,
        tags: list[str],
    ) -> NewDocument:
        raw, encoding = exact_text(source.data, parsed.media_type)
        metadata: dict[str, Any] = dict(parsed.document.metadata) | {"size": len(source.data)}
        if encoding is not None:
            metadata["encoding"] = encoding
        if source.modified_at is not None:
            metadata["modified_at"] = source.modified_at.isoformat()
        if parsed.document.warnings:
            metadata["warnings"] = list(parsed.document.warnings)
        return NewDocument(
            kind="file",
            collection=payload.collection,
            source_uri=source.uri,
            title=parsed.document.title,
            raw=raw,
            media_type=parsed.media_type,
            sha256=sha256,
            pipeline_version=self._pipeline,
            tags=tags,
            metadata=metadata | payload.metadata,
        )


def embed_jobs(written: Stored, models: Sequence[EmbeddingModel], attempt: Attempt) -> list[NewJob]:
    """The jobs that give a document's new chunks their vectors, one for each of ``models``.

    That of the active model is in the batch of the job that made the chunks: the document is searchable
    when it is done. Those of other models are not, for nobody waits for them. Without a model one job is
    for the first that comes.
    """
    payload = {"document_id": str(written.document_id)}
    weight = max(1, written.added)
    active = [model.name for model in models if model.state == "active"]
    jobs = [
        NewJob(
            "embed",
            payload | ({"model": active[0]} if active else {}),
            queue="embed",
            priority=attempt.job.priority,
            batch_id=attempt.job.batch_id,
            weight=weight,
        )
    ]
    jobs += [
        NewJob(
            "backfill",
            payload | {"model": model.name},
            queue="migrate",
            priority=attempt.job.priority,
            weight=weight,
        )
        for model in models
        if model.state != "active"
    ]
    return jobs
