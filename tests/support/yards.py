"""A docyard on a test's database, and what a test asks of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from docyard import Docyard, Settings
from docyard_queue import Backoff, Inspection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard import IngestSummary
    from docyard_queue import JobRow, Registry
    from docyard_schema import Database

AT_ONCE = Backoff(base=timedelta(0))
DIMENSION = 64

WORDLLAMA = {"DOCYARD_EMBEDDING_PROVIDER": "wordllama"}


def asking(server: EmbeddingServer, **more: str) -> dict[str, str]:
    """The environment that makes docyard ask this server for its vectors."""
    return {
        "DOCYARD_EMBEDDING_PROVIDER": "openai",
        "DOCYARD_EMBEDDING_BASE_URL": server.url,
        "DOCYARD_EMBEDDING_DIMENSION": str(DIMENSION),
    } | more


@asynccontextmanager
async def open_yard(
    url: str, environment: Mapping[str, str] = WORDLLAMA, *, registry: Registry | None = None
) -> AsyncIterator[Docyard]:
    """A docyard with the settings of this environment and no other, whose failed jobs run again at once."""
    from docyard import load_settings

    settings = load_settings(environment=environment)
    assert isinstance(settings, Settings)
    async with Docyard.open(url, settings=settings, registry=registry, retry=AT_ONCE) as yard:
        yield yard


async def ingest(yard: Docyard, *paths: Path, **options: Any) -> IngestSummary:
    """Ingest and do all the work here; what became of it."""
    batch = await yard.ingest(paths, **options)
    await yard.work()
    return await batch.summary()


async def rows(database: Database, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a statement finds."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), parameters)
        return await cursor.fetchall()


async def value(database: Database, statement: str, *parameters: Any) -> Any:
    """The one value that a statement finds."""
    [[found]] = await rows(database, statement, *parameters)
    return found


async def jobs(yard: Docyard, **filters: Any) -> list[JobRow]:
    """Jobs, the oldest first."""
    return (await Inspection(yard.database).jobs(limit=10_000, **filters))[::-1]
