"""Everything that docyard's own jobs need, opened and closed together, and the registry of their handlers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from docyard_queue import Backoff, Registry
from docyard_schema.embeddings import IndexOptions
from docyard_workers.embed.allowance import require_price
from docyard_workers.embed.handler import Embed
from docyard_workers.embed.providers import EmbeddingConfig, EmbeddingProvider, Providers
from docyard_workers.embed.sweep import Sweep
from docyard_workers.ingest.handler import Ingest
from docyard_workers.ingest.isolation import DEADLINE, ChildPool
from docyard_workers.ingest.preparation import ChunkOptions
from docyard_workers.ingest.sources import MAX_BYTES
from docyard_workers.migrate.reembed import Reembed

if TYPE_CHECKING:
    from decimal import Decimal

    from docyard_schema import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """Values of the pipeline: how to embed, how to cut, how many parser processes (None: one per core),
    how to build indexes of vectors.

    ``longest_wait`` is how long a text waits at most for others that fill its request. ``daily_ceiling`` is
    in US dollars, None: no ceiling. ``retry`` is how long a failed job of the pipeline waits;
    ``Backoff(base=timedelta(0))`` is not at all.
    """

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    longest_wait: timedelta = timedelta(seconds=5)
    daily_ceiling: Decimal | None = None
    chunking: ChunkOptions = field(default_factory=ChunkOptions)
    max_bytes: int = MAX_BYTES
    parser_processes: int | None = None
    parser_deadline: timedelta = DEADLINE
    index: IndexOptions = field(default_factory=IndexOptions)
    retry: Backoff = field(default_factory=Backoff)


class Pipeline:
    """Parsers and providers of one process, and the handlers that use them: ``ingest`` and ``embed``.

    ``provider`` is the one that the settings ask for; ``providers`` has those of all registered models.
    """

    def __init__(self, database: Database, options: PipelineOptions | None = None) -> None:
        options = options or PipelineOptions()
        self.providers = Providers(options.embedding)
        self.provider: EmbeddingProvider = self.providers.configured
        require_price(self.provider, options.daily_ceiling)
        self._parsers = ChildPool(options.parser_processes, deadline=options.parser_deadline)
        self.embed = Embed(
            database,
            self.providers,
            backoff=options.retry,
            longest_wait=options.longest_wait.total_seconds(),
            daily_ceiling=options.daily_ceiling,
            index=options.index,
        )
        self.reembed = Reembed(database, options.index)
        self.sweep = Sweep(database)
        chunking = replace(options.chunking, max_tokens=self.provider.limits.max_tokens_per_text)
        self.ingest = Ingest(database, self._parsers, chunking, options.max_bytes)
        self._retry = options.retry

    def registry(self, own: Registry | None = None) -> Registry:
        """docyard's handlers, and those of an application beside them."""
        registry = Registry()
        self.ingest.register(registry, self._retry)
        self.embed.register(registry)
        self.reembed.register(registry, self._retry)
        self.sweep.register(registry, self._retry)
        return registry.include(own) if own is not None else registry

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.embed.close()
        await self._parsers.close()
        await self.providers.aclose()
