"""What docyard's coalescing is compared with: a request per document, several at once.

No queue, no leases, no retries: a loop over the documents that lack vectors, with docyard's own client and
its own way to write vectors. So the difference is the requests, and a queue would only make it slower.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING

from docyard_schema import Database, ModelRepository, VectorRepository
from docyard_schema.embeddings import NewVector
from docyard_workers.embed.providers import EmbeddingConfig, choose_provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from docyard_schema import EmbeddingModel
    from docyard_schema.embeddings import MissingVector
    from docyard_workers.embed.providers import EmbeddingProvider


async def embed_documents(url: str, provider_url: str, *, parallel: int) -> float:
    """Give all documents their vectors; the seconds that it took."""
    provider = choose_provider(EmbeddingConfig(provider="openai", base_url=provider_url), {})
    async with await Database.connect(url) as database:
        await provider.start()
        model = await ModelRepository(database).use(provider.model)
        async with database.connection() as connection:
            cursor = await connection.execute(database.sql("SELECT id FROM docyard.documents ORDER BY id"))
            documents = iter([row[0] for row in await cursor.fetchall()])
        began = time.perf_counter()
        await asyncio.gather(*(_work(database, provider, model, documents) for _ in range(parallel)))
        seconds = time.perf_counter() - began
    await provider.aclose()
    return seconds


async def _work(
    database: Database, provider: EmbeddingProvider, model: EmbeddingModel, documents: Iterator[UUID]
) -> None:
    vectors = VectorRepository(database)
    for document in documents:
        await vectors.reuse(model, [document])
        alike: dict[bytes, list[MissingVector]] = {}
        for chunk in await vectors.missing(model, [document]):
            alike.setdefault(chunk.content_hash, []).append(chunk)
        waiting = iter(alike.values())
        # The sizes of a request are far from the limits, but for the largest documents.
        while group := list(islice(waiting, 1_000)):
            texts = await vectors.texts([same[0].chunk_id for same in group])
            answer = await provider.embed([texts[same[0].chunk_id] for same in group])
            found = [
                NewVector(chunk_id=chunk.chunk_id, content_hash=chunk.content_hash, embedding=vector)
                for same, vector in zip(group, answer.vectors, strict=True)
                if vector is not None
                for chunk in same
            ]
            async with database.transaction() as connection:
                await vectors.write(model, found, connection=connection)
