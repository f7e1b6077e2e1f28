"""The HNSW index of a model's vectors: built when it begins to pay, beside running writers."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from docyard_schema.answers import answering_within
from docyard_schema.errors import DatabaseError, InvalidInput
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "vector_index.sql")

# Below this an exact scan answers in milliseconds and misses nothing; building the index early would only
# make every insert of a first load 20 times dearer.
ROWS_WORTH_AN_INDEX = 20_000
_DEFAULT_M, _DEFAULT_EF_CONSTRUCTION = 16, 64  # pgvector's own


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """How an HNSW index is built; None leaves it to pgvector (16 and 64).

    ``m``: neighbours per vector and layer, 2 to 100. ``ef_construction``: candidates looked at for each
    vector, 4 to 1,000 and at least twice ``m``. Larger ones find more of what is near, and take more time
    and memory.
    """

    m: int | None = None
    ef_construction: int | None = None

    def __post_init__(self) -> None:
        m, candidates = self.m or _DEFAULT_M, self.ef_construction or _DEFAULT_EF_CONSTRUCTION
        if not (2 <= m <= 100 and 4 <= candidates <= 1000 and candidates >= 2 * m):
            raise InvalidInput(
                "An index of vectors has m of 2 to 100 and ef_construction of 4 to 1,000 and at least 2 * m; "
                f"got m = {m} and ef_construction = {candidates}.",
                hint="Set DOCYARD_VECTOR_INDEX_M and DOCYARD_VECTOR_INDEX_EF_CONSTRUCTION, or neither.",
                operation="build vector index",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """The index of a model's vectors: ``valid`` is None when there is none, false when a build did not end.

    ``phase`` is the server's word for what a running build does, None when none runs or this user may not
    see it; ``done`` is how much of that phase, 0 to 1. ``vectors`` is the planner's estimate.
    """

    vectors: int
    valid: bool | None
    phase: str | None
    done: float


async def index_state(database: Database, model: EmbeddingModel) -> IndexState:
    """How the model's index stands. Cheap: reads the catalogue and estimates."""
    names = {"schema": database.namespace.schema, "partition": model.partition}
    async with (
        database.connection() as connection,
        connection.cursor(row_factory=class_row(IndexState)) as cursor,
    ):
        await cursor.execute(_statements.state, names)
        found = await cursor.fetchone()
    return found or IndexState(vectors=0, valid=None, phase=None, done=0)


async def index_is_due(database: Database, model: EmbeddingModel) -> bool:
    """Whether an index is to be built: there are enough vectors and none is valid, or one is invalid.

    An invalid one, left by a build that was cut off, serves no search and burdens every write.
    """
    state = await index_state(database, model)
    if state.valid is None:
        return state.vectors >= ROWS_WORTH_AN_INDEX and state.phase is None
    return not state.valid and state.phase is None


async def build_index(
    database: Database, model: EmbeddingModel, *, m: int | None = None, ef_construction: int | None = None
) -> None:
    """Build the model's HNSW index while writers go on; one that a crash left half-built is replaced.

    A valid one stays as it is, whatever it was built with. Several may call this at once: one builds, the
    others wait for it; :func:`index_state` tells how far it is. The vectors are indexed as ``halfvec``: half
    the memory, the same order to three digits, and up to 4,000 dimensions, where ``vector`` ends at 2,000.
    Raises what :class:`IndexOptions` raises.
    """
    options = IndexOptions(m=m, ef_construction=ef_construction)
    namespace = database.namespace
    index = f"{model.partition}_hnsw"
    async with database.dedicated() as connection, _one_builder(connection, f"{namespace.schema}.{index}"):
        cursor = await connection.execute(_statements.is_valid, {"schema": namespace.schema, "index": index})
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return
        # CREATE INDEX CONCURRENTLY has no place in a transaction and may take long.
        await connection.execute("SET statement_timeout = 0")
        with answering_within(connection, None), _told_who_may(model):
            await connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(
                    sql.Identifier(namespace.schema, index)
                )
            )
            await connection.execute(
                sql.SQL(
                    "CREATE INDEX CONCURRENTLY {index} ON {table} "
                    "USING hnsw ((embedding::{vectors}.halfvec({dimension})) {vectors}.halfvec_cosine_ops) "
                    "WITH (m = {m}, ef_construction = {candidates})"
                ).format(
                    index=sql.Identifier(index),
                    table=sql.Identifier(namespace.schema, model.partition),
                    vectors=sql.Identifier(namespace.vectors),
                    dimension=sql.Literal(model.dimension),
                    m=sql.Literal(options.m or _DEFAULT_M),
                    candidates=sql.Literal(options.ef_construction or _DEFAULT_EF_CONSTRUCTION),
                )
            )


@contextmanager
def _told_who_may(model: EmbeddingModel) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary
        raise DatabaseError(
            f"This user may not build the index of {model.name}'s vectors: {said}.",
            hint="Let a worker that connects as the schema's owner do it: docyard worker --queue maintain",
            operation="build vector index",
            reason=said,
        ) from error


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
