"""The vectors of chunks: which are missing, which are known already, and writing them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID  # noqa: TC003 - a row's field

from psycopg.rows import args_row

from docyard_schema.documents.chunk_identity import embedding_input
from docyard_schema.embeddings.vector_copy import copied_rows, vector_bytes
from docyard_schema.errors import ModelMismatch
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "vectors.sql")

_COPY = (
    "COPY docyard.embeddings (model_id, chunk_id, embedding, content_hash) FROM STDIN WITH (FORMAT BINARY)"
)


class MissingVector(NamedTuple):
    """A chunk that a model has no current vector for. (A tuple: a book has tens of thousands.)

    ``token_count`` is the estimate for the text that is sent, headings included.
    """

    chunk_id: int
    document_id: UUID
    collection: str
    content_hash: bytes
    token_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRange:
    """Chunks by their ids, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVector:
    """A chunk's vector before it is stored; ``content_hash`` is of the text that was embedded."""

    chunk_id: int
    content_hash: bytes
    embedding: Sequence[float]


class VectorRepository:
    """Reads and writes vectors of one model at a time.

    Where chunks are asked for, they are those of documents, or a range.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def missing(
        self,
        model: EmbeddingModel,
        chunks: Sequence[UUID] | ChunkRange,
        *,
        connection: Connection | None = None,
    ) -> list[MissingVector]:
        """Those of ``chunks`` that lack a current vector, by their ids.

        Those whose text the model refused, and those of deleted documents, are not wanted.
        """
        statement, values = _scope(
            chunks, _statements.missing_of_documents, _statements.missing_in_range, model
        )
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = args_row(MissingVector)
            await cursor.execute(self._database.sql(statement), values)
            return await cursor.fetchall()

    async def reuse(
        self,
        model: EmbeddingModel,
        chunks: Sequence[UUID] | ChunkRange,
        *,
        connection: Connection | None = None,
    ) -> int:
        """Give chunks the stored vectors of equal texts; returns how many got one."""
        statement, values = _scope(chunks, _statements.reuse_in_documents, _statements.reuse_in_range, model)
        async with self._database.connection(connection) as opened:
            cursor = await opened.execute(self._database.sql(statement), values)
            return cursor.rowcount

    async def texts(
        self, chunk_ids: Sequence[int], *, connection: Connection | None = None
    ) -> dict[int, str]:
        """The text to embed of each of these chunks; those that are gone are left out."""
        async with self._database.connection(connection) as opened:
            cursor = await opened.execute(
                self._database.sql(_statements.texts), {"chunks": list(chunk_ids)}, binary=True
            )
            return {chunk: embedding_input(path, text) for chunk, path, text in await cursor.fetchall()}

    async def write(
        self, model: EmbeddingModel, vectors: Sequence[NewVector], *, connection: Connection
    ) -> int:
        """Store vectors in the caller's transaction; returns how many.

        Those of chunks that are gone or changed since are left out. Raises :class:`ModelMismatch` when
        the model was dropped, :class:`InvalidInput` for a vector that does not fit it.
        """
        cursor = await connection.execute(self._database.sql(_statements.hold_model), {"model": model.id})
        held = await cursor.fetchone()
        if held is None or held[0] != model.dimension:
            raise ModelMismatch(
                f"The model {model.identity.describe()} is no longer registered as such.",
                hint="Start the worker again; it reads its model at start.",
                operation="write vectors",
            )
        # Two jobs of one document may bring a chunk twice, which one statement cannot write twice.
        chosen = {vector.chunk_id: vector for vector in vectors}
        values: dict[str, Any] = {
            "model": model.id,
            "chunks": [*chosen],
            "hashes": [vector.content_hash for vector in chosen.values()],
        }
        cursor = await connection.execute(self._database.sql(_statements.hold_chunks), values)
        kept = [chosen[chunk] for (chunk,) in await cursor.fetchall()]
        if not kept:
            return 0
        # In a thread: some hundred milliseconds for the largest request.
        rows = await asyncio.to_thread(_rows, model, kept)
        values["chunks"] = [vector.chunk_id for vector in kept]
        await connection.execute(self._database.sql(_statements.make_room), values)
        async with connection.cursor() as copying, copying.copy(self._database.sql(_COPY)) as copy:
            await copy.write(rows)
        return len(kept)

    async def record_failures(
        self,
        model: EmbeddingModel,
        failures: Sequence[tuple[int, str, str]],
        *,
        connection: Connection | None = None,
    ) -> None:
        """Keep why texts cannot be embedded, as (chunk id, code, message): no sweep takes them up again."""
        reasons = {chunk: (code, message) for chunk, code, message in failures}
        async with self._database.connection(connection) as opened:
            await opened.execute(
                self._database.sql(_statements.record_failures),
                {
                    "model": model.id,
                    "chunks": list(reasons),
                    "codes": [code for code, _ in reasons.values()],
                    "messages": [_printable(message[:1000]) for _, message in reasons.values()],
                },
            )


def _scope(
    chunks: Sequence[UUID] | ChunkRange, of_documents: str, in_range: str, model: EmbeddingModel
) -> tuple[str, dict[str, Any]]:
    if isinstance(chunks, ChunkRange):
        return in_range, {"model": model.id, "first": chunks.first, "last": chunks.last}
    return of_documents, {"model": model.id, "documents": list(chunks)}


def _rows(model: EmbeddingModel, vectors: Sequence[NewVector]) -> bytes:
    return copied_rows(
        model.id,
        (
            (vector.chunk_id, vector_bytes(vector.embedding, model.dimension), vector.content_hash)
            for vector in vectors
        ),
    )


def _printable(text: str) -> str:
    return text.replace("\x00", "").encode(errors="replace").decode()
