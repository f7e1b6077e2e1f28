"""All models at a glance: how much of the store each covers, and how its index stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_schema.answers import answering_within
from docyard_schema.embeddings.models import ModelRepository
from docyard_schema.embeddings.vector_index import IndexState, index_state
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from docyard_schema.database import Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "overview.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOverview:
    """A model, and of the chunks of live documents: how many have its vector, lack it, or were refused.

    ``bytes`` is the size of its vectors with their indexes.
    """

    model: EmbeddingModel
    chunks: int
    embedded: int
    missing: int
    failed: int
    bytes: int
    index: IndexState


async def overview(database: Database) -> list[ModelOverview]:
    """All models in the order of their registration. Counts: a second or two per model and million chunks."""
    models = await ModelRepository(database).list()
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        with answering_within(connection, None):
            cursor = await connection.execute(database.sql(_statements.coverage))
            covered = {name: counts for name, *counts in await cursor.fetchall()}
        sizes = {}
        for model in models:
            table = {"table": f'"{database.namespace.schema}".{model.partition}'}
            cursor = await connection.execute(_statements.size, table)
            row = await cursor.fetchone()
            sizes[model.id] = row[0] if row else 0
    found = []
    for model in models:
        chunks, embedded, missing, failed = covered.get(model.name, (0, 0, 0, 0))
        found.append(
            ModelOverview(
                model=model,
                chunks=chunks,
                embedded=embedded,
                missing=missing,
                failed=failed,
                bytes=sizes[model.id],
                index=await index_state(database, model),
            )
        )
    return found
