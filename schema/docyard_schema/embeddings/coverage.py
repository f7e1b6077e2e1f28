"""How much of the text a model has vectors for, what it lacks, and what making the rest would take."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from docyard_schema.answers import answering_within
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema.database import Connection, Database
    from docyard_schema.embeddings.records import EmbeddingModel

_statements = load_statements("docyard_schema.embeddings", "coverage.sql")

_CHUNKS_PER_STATEMENT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Chunks of documents that are not deleted: with a current vector, without, and refused by the model."""

    chunks: int
    embedded: int
    failed: int

    @property
    def missing(self) -> int:
        """Those without a vector that can still get one."""
        return self.chunks - self.embedded - self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRange:
    """Chunk ids from ``first`` to ``last``, of which ``chunks`` lack a vector."""

    first: int
    last: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a model still lacks: chunks, the different texts among them to be sent, and their tokens."""

    chunks: int
    texts: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedChunk:
    """A chunk that a model would not take, where it stands and why."""

    chunk_id: int
    source_uri: str | None
    ordinal: int
    code: str
    message: str


async def coverage(
    database: Database, model: EmbeddingModel, *, connection: Connection | None = None
) -> Coverage:
    """Exact counts, by one pass over the chunks: a second for a million of them."""
    async with unhurried(database, connection) as opened, opened.cursor() as cursor:
        cursor.row_factory = class_row(Coverage)
        await cursor.execute(database.sql(_statements.coverage), {"model": model.id})
        found: Coverage | None = await cursor.fetchone()
    assert found is not None  # noqa: S101 - a count has a row
    return found


async def missing_ranges(
    database: Database, model: EmbeddingModel, *, size: int, connection: Connection
) -> AsyncIterator[MissingRange]:
    """What lacks a vector, in ranges of ``size`` such chunks by id; the last of a window may be smaller."""
    window = max(size, _CHUNKS_PER_STATEMENT // size * size)
    after = 0
    while True:
        values = {"model": model.id, "after": after, "size": size, "window": window}
        async with connection.cursor() as cursor:
            cursor.row_factory = class_row(MissingRange)
            await cursor.execute(database.sql(_statements.missing_ranges), values)
            found: list[MissingRange] = await cursor.fetchall()
        for part in found:
            yield part
        if sum(part.chunks for part in found) < window:
            return
        after = found[-1].last


async def workload(
    database: Database, model: EmbeddingModel | None, *, connection: Connection | None = None
) -> Workload:
    """What ``model`` still has to be sent; None is a model that is not registered: everything."""
    async with unhurried(database, connection) as opened, opened.cursor() as cursor:
        cursor.row_factory = class_row(Workload)
        await cursor.execute(database.sql(_statements.workload), {"model": model and model.id})
        found: Workload | None = await cursor.fetchone()
    assert found is not None  # noqa: S101 - a count has a row
    return found


async def refused_chunks(database: Database, model: EmbeddingModel, *, limit: int = 20) -> list[RefusedChunk]:
    """The first chunks without a vector because the model refused their text, by id."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(RefusedChunk)
        await cursor.execute(database.sql(_statements.refused), {"model": model.id, "limit": limit})
        return await cursor.fetchall()


@asynccontextmanager
async def unhurried(database: Database, joined: Connection | None = None) -> AsyncIterator[Connection]:
    """A transaction whose statements may take as long as a large corpus needs."""
    async with database.transaction(joined) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        with answering_within(connection, None):
            yield connection
