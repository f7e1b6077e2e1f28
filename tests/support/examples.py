"""Small documents, models and vectors for tests."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

from docyard_schema import ModelIdentity, ModelRepository, NewDocument, VectorRepository
from docyard_schema.documents import DocumentRepository, identify
from docyard_schema.embeddings import NewVector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docyard_schema import Database, EmbeddingModel, NewChunk, Stored
    from docyard_schema.database import Connection


def a_document(text: str = "Some text.", **fields: Any) -> NewDocument:
    """A document whose raw text is ``text``."""
    given: dict[str, Any] = {
        "kind": "file",
        "collection": "default",
        "source_uri": "file:///a.txt",
        "title": "A",
        "raw": text,
        "media_type": "text/plain",
        "sha256": hashlib.sha256(text.encode(errors="surrogatepass")).digest(),
        "pipeline_version": "1",
    }
    return NewDocument(**given | fields)


def passages(*texts: str, heading: str = "", language: str = "english") -> list[NewChunk]:
    """Chunks of these texts, in this order."""
    return identify((((heading,) if heading else (), text) for text in texts), language=language)


async def store(
    database: Database,
    texts: Sequence[str] = ("Some text.",),
    *,
    connection: Connection | None = None,
    **fields: Any,
) -> Stored:
    """Store a document that consists of these passages."""
    document = a_document("\n\n".join(texts), **fields)
    return await DocumentRepository(database).store(document, passages(*texts), connection=connection)


def an_identity(name: str = "model", dimension: int = 3, **fields: Any) -> ModelIdentity:
    given: dict[str, Any] = {"name": name, "provider": "test", "dimension": dimension, "hash": "ab" * 32}
    return ModelIdentity(**given | fields)


def a_vector(dimension: int = 3, seed: object = 0) -> list[float]:
    chance = random.Random(str(seed))
    return [chance.uniform(-1, 1) for _ in range(dimension)]


async def embed(
    database: Database, model: EmbeddingModel, documents: Iterable[Stored], *, seed: object = 0
) -> int:
    """Give all pending chunks of these documents a vector; returns how many got one."""
    vectors = VectorRepository(database)
    async with database.transaction() as connection:
        missing = await vectors.missing(
            model, [document.document_id for document in documents], connection=connection
        )
        texts = await vectors.texts([chunk.chunk_id for chunk in missing], connection=connection)
        made = [
            NewVector(
                chunk_id=chunk.chunk_id,
                content_hash=chunk.content_hash,
                embedding=a_vector(model.dimension, f"{seed} {texts[chunk.chunk_id]}"),
            )
            for chunk in missing
        ]
        return await vectors.write(model, made, connection=connection)


async def fill(database: Database) -> EmbeddingModel:
    """Something in every table of the base: documents with versions, chunks, vectors, a failure, jobs."""
    model = await ModelRepository(database).use(an_identity())
    first = await store(database, ["One about bees.", "Two about honey."], source_uri="a", title="Bees")
    await store(database, ["One about bees.", "Three about wax."], source_uri="a", title="Bees and wax")
    second = await store(database, ["Four about trees."], source_uri="b")
    await embed(database, model, [first, second])
    async with database.transaction() as connection:
        third = await store(database, ["Five, refused."], source_uri="c", connection=connection)
        [chunk] = await DocumentRepository(database).chunks(third.document_id, connection=connection)
        await VectorRepository(database).record_failures(
            model, [(chunk.id, "too_long", "The text is too long.")], connection=connection
        )
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, args, status, scheduled_at) "
                "SELECT 'ingest', 'ingest', '{\"source\": \"a\"}', status, now() "
                "FROM unnest('{todo,doing,succeeded,failed}'::docyard.procrastinate_job_status[]) AS status"
            )
        )
        await connection.execute(
            database.sql("INSERT INTO docyard.batches (id, label) VALUES (gen_random_uuid(), 'all')")
        )
    return model
