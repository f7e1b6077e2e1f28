"""A small library of documents with words, and vectors where a test gives them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.eventually import eventually

from docyard_schema import (
    Database,
    DocumentRepository,
    ModelIdentity,
    ModelRepository,
    NewDocument,
    VectorRepository,
)
from docyard_schema.documents import identify
from docyard_schema.embeddings import NewVector
from docyard_schema.search import DocumentSearch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from docyard_schema.embeddings import EmbeddingModel

FILL = (
    """
    INSERT INTO docyard.documents (id, kind, collection, source_uri, current_version)
    SELECT gen_random_uuid(), CASE n %% 20 WHEN 0 THEN 'rare' ELSE 'file' END, 'main', n::text,
        gen_random_uuid()
    FROM generate_series(1, %(rows)s) AS n
    """,
    """
    INSERT INTO docyard.chunks (document_id, ordinal, text, content_hash, token_count, lexemes, length)
    SELECT id, 0, body, sha256(body::bytea), 1, docyard.chunk_lexemes('english', NULL, '{}', body), 20
    FROM docyard.documents
    CROSS JOIN LATERAL (SELECT format('common word%%s w%%s %%s', source_uri, source_uri::integer %% 300,
        repeat('filler ', 17)) AS body) AS made
    """,
    """
    INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash)
    SELECT %(model)s, id, random.vector::vector, content_hash
    FROM docyard.chunks
    CROSS JOIN LATERAL (
        SELECT array_agg(random() - 0.5) AS vector
        FROM generate_series(chunks.id, chunks.id + %(dimension)s - 1)
    ) AS random
    """,
)


class Library:
    """Stores documents: a text or several chunks of (headings, text), with a vector for each chunk."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.documents = DocumentRepository(database)
        self.model: EmbeddingModel | None = None

    async def add(
        self,
        text: str | Sequence[tuple[Sequence[str], str]],
        *,
        title: str | None = None,
        uri: str | None = None,
        vectors: Sequence[Sequence[float]] = (),
        language: str = "english",
        **fields: Any,
    ) -> UUID:
        pieces = [((), text)] if isinstance(text, str) else list(text)
        uri = uri or f"test:{uuid4()}"
        document = NewDocument(
            **{"kind": "file", "collection": "main"} | fields,
            source_uri=uri,
            title=title,
            raw=uri,
            media_type="text/plain",
            sha256=hashlib.sha256(repr((uri, pieces)).encode()).digest(),
            pipeline_version="1",
        )
        stored = await self.documents.store(document, identify(pieces, language=language))
        if vectors:
            model = await self.use_model(len(vectors[0]))
            chunks = await self.documents.chunks(stored.document_id)
            async with self.database.transaction() as connection:
                await VectorRepository(self.database).write(
                    model,
                    [
                        NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=vector)
                        for chunk, vector in zip(chunks, vectors, strict=True)
                    ],
                    connection=connection,
                )
        return stored.document_id

    async def use_model(self, dimension: int) -> EmbeddingModel:
        self.model = await ModelRepository(self.database).use(
            ModelIdentity(name="test", provider="test", dimension=dimension, hash="0" * 64)
        )
        return self.model

    async def fill(self, rows: int, *, dimension: int = 8) -> None:
        """``rows`` documents of one chunk with random vectors, one in 20 of the kind "rare"."""
        model = await self.use_model(dimension)
        parameters = {"rows": rows, "model": model.id, "dimension": dimension}
        async with self.database.transaction() as connection:
            for statement in FILL:
                await connection.execute(statement, parameters)
        async with self.database.connection() as connection:

            async def all_visible() -> bool:
                # Which a row is only once its commit is on the disk, and the tests' server takes its time.
                await connection.execute("VACUUM ANALYZE docyard.documents, docyard.chunks")
                cursor = await connection.execute(
                    "SELECT bool_and(relallvisible = relpages) FROM pg_class "
                    "WHERE oid IN ('docyard.chunks'::regclass, 'docyard.documents'::regclass)"
                )
                return await cursor.fetchone() == (True,)

            await connection.execute("ANALYZE docyard.embeddings")
            await eventually(all_visible)


@pytest.fixture
def library(database: Database) -> Library:
    return Library(database)


@pytest.fixture
def search(database: Database) -> DocumentSearch:
    return DocumentSearch(database)
