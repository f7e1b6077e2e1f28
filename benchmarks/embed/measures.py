"""What is measured of docyard: a folder that is ingested already, one that is not, a second run, a change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.embed.simulation import minimum_requests
from docyard import Docyard, load_settings
from docyard_queue.queues import pause, resume
from docyard_schema import Database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.embed.provider import EmbeddingProcess

# From the first claim to the last completion, so without the start of a process and its last look around.
_SPAN = """
SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM docyard.jobs
WHERE kind = ANY (%s) AND state = 'completed'
"""
_WITHOUT = """
SELECT count(*) FROM docyard.chunks AS chunk
WHERE NOT EXISTS (SELECT FROM docyard.embeddings AS vector WHERE vector.chunk_id = chunk.id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run took: ``seconds`` for ``chunks`` vectors, and what the provider counted."""

    seconds: float
    chunks: int
    counts: dict[str, Any]

    @property
    def per_second(self) -> float:
        """Chunks that got their vectors in a second."""
        return self.chunks / self.seconds

    @property
    def requests_per_minimum(self) -> float:
        """Requests for each that the provider's limits make necessary, of the texts that were sent."""
        least = minimum_requests(self.counts["texts"], self.counts["tokens"])
        return float(self.counts["requests"]) / least

    def times_ideal(self, latency: float, parallel: int) -> float:
        """Seconds for each that the provider's latency makes necessary."""
        return self.seconds / (float(self.counts["requests"]) * latency / parallel)


def environment(provider: EmbeddingProcess, parallel: int) -> dict[str, str]:
    """Settings of a worker that asks this provider."""
    return {
        "DOCYARD_EMBEDDING_PROVIDER": "openai",
        "DOCYARD_EMBEDDING_BASE_URL": provider.url,
        "DOCYARD_EMBEDDING_PARALLEL_REQUESTS": str(parallel),
        "DOCYARD_LOG_LEVEL": "warning",
    }


async def migrate(url: str) -> None:
    """Make the schema; the index of vectors is left out of every measure, it is Postgres's own work."""
    async with await Database.connect(url) as database:
        await database.initialize(migrate_schema=True)
        await pause(database, "maintain")


async def ingest_only(url: str, settings: dict[str, str], paths: Sequence[Path]) -> int:
    """Ingest a folder, leaving its ``embed`` jobs for later; how many chunks there are."""
    async with Docyard.open(url, settings=load_settings(environment=settings)) as yard:
        await pause(yard.database, "embed")
        await yard.ingest(paths)
        await yard.work()
        await yard.refresh()
        return int(await _one(yard.database, "SELECT count(*) FROM docyard.chunks"))


async def embed_backlog(url: str, settings: dict[str, str], provider: EmbeddingProcess) -> Measured:
    """The folder is ingested: one worker gives it its vectors."""
    async with Docyard.open(url, settings=load_settings(environment=settings)) as yard:
        await yard.pipeline.provider.start()
        provider.reset()
        await resume(yard.database, "embed")
        await yard.work()
        return await _measured(yard, provider, ["embed"])


async def ingest_and_embed(
    url: str, settings: dict[str, str], provider: EmbeddingProcess, paths: Sequence[Path]
) -> Measured:
    """One worker does all of it."""
    async with Docyard.open(url, settings=load_settings(environment=settings)) as yard:
        provider.reset()
        await yard.ingest(paths)
        await yard.work()
        return await _measured(yard, provider, ["ingest", "embed"])


async def ingest_again(
    url: str, settings: dict[str, str], provider: EmbeddingProcess, paths: Sequence[Path]
) -> tuple[int, int]:
    """The requests that the same folder takes again, and texts sent for no new chunk after a change.

    The change is a line more in every hundredth file.
    """
    async with Docyard.open(url, settings=load_settings(environment=settings)) as yard:
        provider.reset()
        await yard.ingest(paths)
        await yard.work()
        requests = int(provider.counts()["requests"])
        last = await _one(yard.database, "SELECT max(id) FROM docyard.chunks")
        for folder in paths:
            for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
                if number % 100 == 0:
                    path.write_text(f"{path.read_text()}\n\nOf {path.name} more is to be said now.")
        provider.reset()
        await yard.ingest(paths)
        await yard.work()
        new = await _one(yard.database, "SELECT count(*) FROM docyard.chunks WHERE id > %s", last)
        return requests, int(provider.counts()["texts"]) - new


async def _measured(yard: Docyard, provider: EmbeddingProcess, kinds: Sequence[str]) -> Measured:
    lacking = await _one(yard.database, _WITHOUT)
    if lacking:
        raise RuntimeError(f"expected a vector for every chunk, got none for {lacking:,}")
    return Measured(
        seconds=float(await _one(yard.database, _SPAN, list(kinds))),
        chunks=await _one(yard.database, "SELECT count(*) FROM docyard.chunks"),
        counts=provider.counts(),
    )


async def _one(database: Database, statement: str, *values: Any) -> Any:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(statement), values)
        row = await cursor.fetchone()
    assert row is not None
    return row[0]
