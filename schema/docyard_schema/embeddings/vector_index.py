"""The HNSW index of a model's vectors: built when it begins to pay, beside running writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from docyard_schema.database import Database
    from docyard_schema.embeddings.models import EmbeddingModel

# Below this an exact scan answers in milliseconds and misses nothing; building the index early would only
# make every insert of a first load 20 times dearer.
ROWS_WORTH_AN_INDEX = 20_000


async def index_is_due(database: Database, model: EmbeddingModel) -> bool:
    """Whether the model has enough vectors for an index and no valid one yet. Cheap: reads estimates."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT t.reltuples, EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
            "JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid = t.oid AND a.amname = 'hnsw' AND i.indisvalid) "
            "FROM pg_class AS t WHERE t.oid = to_regclass(%s)",
            [f"{database.namespace.schema}.{model.partition}"],
        )
        row = await cursor.fetchone()
    return row is not None and row[0] >= ROWS_WORTH_AN_INDEX and not row[1]


async def build_index(database: Database, model: EmbeddingModel) -> None:
    """Build the model's HNSW index while writers go on; one that a crash left half-built is replaced.

    The vectors are indexed as ``halfvec``: half the memory, the same order to three digits, and up to
    4,000 dimensions, where ``vector`` ends at 2,000.
    """
    namespace = database.namespace
    table = sql.Identifier(namespace.schema, model.partition)
    index = f"{model.partition}_hnsw"
    async with database.dedicated() as connection:
        # CREATE INDEX CONCURRENTLY has no place in a transaction and may take long.
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(namespace.schema, index))
        )
        await connection.execute(
            sql.SQL(
                "CREATE INDEX CONCURRENTLY {index} ON {table} "
                "USING hnsw ((embedding::{vectors}.halfvec({dimension})) {vectors}.halfvec_cosine_ops)"
            ).format(
                index=sql.Identifier(index),
                table=table,
                vectors=sql.Identifier(namespace.vectors),
                dimension=sql.Literal(model.dimension),
            )
        )
