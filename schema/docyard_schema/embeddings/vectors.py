"""The vectors of chunks: which are missing, which are known already, and writing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a row's field

from psycopg.rows import class_row

from docyard_schema.documents.chunk_identity import embedding_input
from docyard_schema.embeddings.vector_text import vector_literal
from docyard_schema.errors import ModelMismatch
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "vectors.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChunk:
    """A chunk that a model has no vector for yet."""

    id: int
    heading_path: list[str]
    text: str
    content_hash: bytes
    token_count: int

    @property
    def input(self) -> str:
        """The text to embed."""
        return embedding_input(self.heading_path, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVector:
    """A chunk's vector before it is stored; ``content_hash`` is of the text that was embedded."""

    chunk_id: int
    content_hash: bytes
    embedding: Sequence[float]


class VectorRepository:
    """Reads and writes vectors of one model at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(
        self, model: EmbeddingModel, documents: Sequence[UUID], *, connection: Connection | None = None
    ) -> list[PendingChunk]:
        """The chunks of these documents that lack a current vector, in order of reading."""
        async with self._database.connection(connection) as opened, opened.cursor() as cursor:
            cursor.row_factory = class_row(PendingChunk)
            await cursor.execute(
                self._database.sql(_statements.pending), {"model": model.id, "documents": list(documents)}
            )
            return await cursor.fetchall()

    async def reuse(
        self, model: EmbeddingModel, documents: Sequence[UUID], *, connection: Connection | None = None
    ) -> int:
        """Give chunks the stored vectors of equal texts; returns how many got one."""
        async with self._database.connection(connection) as opened:
            cursor = await opened.execute(
                self._database.sql(_statements.reuse), {"model": model.id, "documents": list(documents)}
            )
            return cursor.rowcount

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
        chosen = list({vector.chunk_id: vector for vector in vectors}.values())
        cursor = await connection.execute(
            self._database.sql(_statements.write),
            {
                "model": model.id,
                "chunks": [vector.chunk_id for vector in chosen],
                "vectors": [vector_literal(vector.embedding, model.dimension) for vector in chosen],
                "hashes": [vector.content_hash for vector in chosen],
            },
        )
        return cursor.rowcount

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


def _printable(text: str) -> str:
    return text.replace("\x00", "").encode(errors="replace").decode()
