"""The HNSW index of a model's vectors: built when it begins to pay, beside running writers."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from docyard_schema.answers import answering_within
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.models import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "vector_index.sql")

# Below this an exact scan answers in milliseconds and misses nothing; building the index early would only
# make every insert of a first load 20 times dearer.
ROWS_WORTH_AN_INDEX = 20_000


async def index_is_due(database: Database, model: EmbeddingModel) -> bool:
    """Whether the model has enough vectors for an index and no valid one yet. Cheap: reads estimates."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            _statements.partition, {"schema": database.namespace.schema, "partition": model.partition}
        )
        row = await cursor.fetchone()
    return row is not None and row[0] >= ROWS_WORTH_AN_INDEX and not row[1]


async def build_index(database: Database, model: EmbeddingModel) -> None:
    """Build the model's HNSW index while writers go on; one that a crash left half-built is replaced.

    A valid one stays as it is. Several may call this at once: one builds, the others wait for it. The
    vectors are indexed as ``halfvec``: half the memory, the same order to three digits, and up to 4,000
    dimensions, where ``vector`` ends at 2,000.
    """
    namespace = database.namespace
    index = f"{model.partition}_hnsw"
    async with database.dedicated() as connection, _one_builder(connection, f"{namespace.schema}.{index}"):
        cursor = await connection.execute(_statements.is_valid, {"schema": namespace.schema, "index": index})
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return
        # CREATE INDEX CONCURRENTLY has no place in a transaction and may take long.
        await connection.execute("SET statement_timeout = 0")
        with answering_within(connection, None):
            await connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(
                    sql.Identifier(namespace.schema, index)
                )
            )
            await connection.execute(
                sql.SQL(
                    "CREATE INDEX CONCURRENTLY {index} ON {table} "
                    "USING hnsw ((embedding::{vectors}.halfvec({dimension})) {vectors}.halfvec_cosine_ops)"
                ).format(
                    index=sql.Identifier(index),
                    table=sql.Identifier(namespace.schema, model.partition),
                    vectors=sql.Identifier(namespace.vectors),
                    dimension=sql.Literal(model.dimension),
                )
            )


@asynccontextmanager
async def _one_builder(connection: Connection, index: str) -> AsyncIterator[None]:
    # Asked for again and again, never waited for: a session that waits for a lock holds a snapshot, and an
    # index that is built concurrently waits for all older snapshots to end.
    key = zlib.crc32(f"docyard builds {index}".encode())
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [key])
        row = await cursor.fetchone()
        if row is not None and row[0]:
            break
        await asyncio.sleep(0.25)
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", [key])
