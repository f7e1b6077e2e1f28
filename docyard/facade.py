"""The façade: everything docyard does, in a few calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import psycopg

from docyard.batch import Batch
from docyard.reembedding import Reembedding
from docyard.settings import Settings, load_settings
from docyard_queue import NewJob, PostgresEngine, create_batch
from docyard_schema import ConfigError, Database, InvalidInput, ModelMismatch, ModelRepository
from docyard_schema.embeddings.in_place import is_filling
from docyard_schema.search import DocumentSearch, SearchResult
from docyard_workers.embed.errors import EmbeddingError
from docyard_workers.ingest.handler import KIND, QUEUE
from docyard_workers.ingest.sources import FoundFile, Refused, find_files
from docyard_workers.migrate.beginning import begin_reembed, estimate_reembed
from docyard_workers.migrate.target import Target
from docyard_workers.pipeline import Pipeline
from docyard_workers.process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from docyard_queue import Backoff, Registry
    from docyard_schema import EmbeddingModel
    from docyard_schema.search import SearchMode
    from docyard_workers.migrate.beginning import Strategy
    from docyard_workers.migrate.estimate import Estimate

_FILES_PER_STATEMENT = 1000


class Docyard:
    """A docyard on one database: made by :meth:`open`, used as an asynchronous context manager.

    ``database`` is for repositories of your own; ``settings`` are those in force.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        url: str | None = None,
        registry: Registry | None = None,
        retry: Backoff | None = None,
        app: str | None = None,
    ) -> None:
        self.settings = settings
        self.database: Database
        self.pipeline: Pipeline
        self._url = url
        self._own_registry = registry
        self._retry = retry
        self._app = app

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        registry: Registry | None = None,
        retry: Backoff | None = None,
        app: str | None = None,
    ) -> Self:
        """A docyard on ``url``, or where the settings say, or on the embedded database.

        ``registry`` has an application's own handlers, which :meth:`work` runs beside docyard's. ``retry`` is
        how long docyard's own jobs wait when they failed; ``Backoff(base=timedelta(0))`` suits tests. ``app``
        is ``module:registry``, where a child process finds ``registry`` again; without it the child imports
        handlers by their own names.

        The database is opened on entering the context, and must have the schema (the embedded one is
        migrated): raises what :meth:`Database.connect` and :meth:`Database.initialize` raise.
        """
        return cls(settings or load_settings(), url=url, registry=registry, retry=retry, app=app)

    async def __aenter__(self) -> Self:
        self.database = await Database.connect(self._url, settings=self.settings)
        try:
            await self.database.initialize()
            options = self.settings.pipeline_options()
            if self._retry is not None:
                options = replace(options, retry=self._retry)
            self.pipeline = Pipeline(self.database, options)
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pipeline.__aexit__()
        await self.database.close()

    @property
    def registry(self) -> Registry:
        """docyard's handlers and the application's."""
        return self.pipeline.registry(self._own_registry)

    def worker(self, **options: Any) -> Worker:
        """A worker over :attr:`registry`; ``options`` are fields of :class:`WorkerOptions`."""
        from docyard.child_registry import write_recipe

        recipe = write_recipe(self.settings, app=self._app, retry=self._retry)
        return Worker(self.database, self.registry, self.settings.worker_options(**options), recipe=recipe)

    async def ingest(
        self,
        paths: Iterable[str | Path],
        *,
        collection: str = "default",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        priority: int = 0,
        on_found: Callable[[int], None] | None = None,
    ) -> Batch:
        """Enqueue one ``ingest`` job per file at or below ``paths``; workers do the rest.

        Globs are those of a ``.gitignore``. Without ``tags`` documents keep those that they have. What cannot
        be taken is in the batch's ``refused``, with the reason. ``on_found`` is called with the number of
        files enqueued so far.
        """
        given = [str(path) for path in paths]
        if not given:
            raise InvalidInput("No path was given.", hint="Name files or folders to ingest.")
        if not collection:
            raise InvalidInput("A collection's name cannot be empty.")
        engine = PostgresEngine(self.database)
        batch_id = await create_batch(self.database, f"ingest {', '.join(given)}"[:200])
        found = find_files(given, include, exclude, self.settings.ingest_max_bytes)
        extra: dict[str, Any] = {"tags": list(tags)} if tags else {}
        extra |= {"metadata": dict(metadata)} if metadata else {}
        refused: list[Refused] = []
        files = 0
        # The walk reads folders: in a thread, and never more of it in memory than one statement takes.
        while part := await asyncio.to_thread(lambda: list(islice(found, _FILES_PER_STATEMENT))):
            taken = [entry for entry in part if isinstance(entry, FoundFile)]
            refused += [entry for entry in part if isinstance(entry, Refused)]
            jobs = (
                NewJob(
                    KIND,
                    {"source": entry.source_uri, "collection": collection} | extra,
                    queue=QUEUE,
                    priority=priority,
                    batch_id=batch_id,
                )
                for entry in taken
            )
            files += len(await engine.enqueue(jobs))
            if on_found is not None:
                on_found(files)
        return Batch(self.database, batch_id, files=files, refused=refused)

    async def reembed(
        self,
        model: str,
        *,
        provider: str | None = None,
        dimension: int | None = None,
        base_url: str | None = None,
        strategy: Strategy = "beside",
        activate: bool = True,
    ) -> Reembedding:
        """Enqueue what makes ``model`` the one that searches use, or join it where it is under way.

        ``model`` is the provider's name or a registered one. One short text is embedded first, so a wrong
        key or name raises before anything is enqueued. ``beside`` activates the model when all is there and
        verified; ``in-place`` activates it first and drops the old vectors, for who has no room for two:
        searches go by words meanwhile, and say so. ``activate=False`` ends before the cut-over. Raises
        :class:`Conflict` while a reembed to another model is under way.
        """
        target = Target(model=model, provider=provider, dimension=dimension, base_url=base_url)
        registered, begun = await begin_reembed(
            self.database, self.pipeline.providers, target, strategy=strategy, activate=activate
        )
        return Reembedding(self.database, registered, begun)

    async def estimate_reembed(
        self,
        model: str,
        *,
        provider: str | None = None,
        dimension: int | None = None,
        base_url: str | None = None,
    ) -> Estimate:
        """What :meth:`reembed` would take: rows, requests, tokens, price, time. Asks no provider."""
        target = Target(model=model, provider=provider, dimension=dimension, base_url=base_url)
        return await estimate_reembed(self.database, self.pipeline.providers, target)

    async def work(self, **options: Any) -> None:
        """Run jobs in this process until none is left to run or to retry."""
        async with self.worker(**options) as worker:
            await worker.drain()

    async def refresh(self) -> None:
        """Give the server fresh statistics, and indexes what they put off; seconds for a million chunks.

        For after much was written: searches are at their speed at once, not after the server's next
        autovacuum. Where this user may not, or there is no time for it, that is left to the server.
        """
        async with self.database.connection() as connection:
            for table in ("documents", "chunks", "embeddings"):
                with suppress(psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege):
                    await connection.execute(self.database.sql(f"VACUUM (ANALYZE) docyard.{table}"))

    async def search(
        self,
        query: str,
        *,
        mode: SearchMode = "hybrid",
        limit: int = 10,
        offset: int = 0,
        collection: str | None = None,
        kind: str | None = None,
    ) -> SearchResult:
        """The documents that answer ``query`` best, with their best passages.

        ``mode`` is ``hybrid``, ``text`` or ``vector``. When one half of a hybrid search cannot run (no
        vectors yet, the provider does not answer), the other half answers and ``.degraded`` says why.
        """
        if not query.strip() and mode in ("hybrid", "vector"):
            mode = "text"  # finds nothing either way, and needs no vector for it
        for last in (False, False, True):
            vector: Sequence[float] | None = None
            degraded: str | None = None
            # Asked for once: a cut-over from here on is for the searches after this one.
            model = await ModelRepository(self.database).active() if mode != "text" else None
            if model is not None:
                vector, degraded = await self._embed_query(query, model, required=mode == "vector")
                if degraded is None and is_filling(model):
                    degraded = f"The vectors of {model.name} are still being made: found by those there are."
            try:
                return await DocumentSearch(self.database).search(
                    query,
                    vector=vector,
                    model=model if vector is not None else None,
                    mode=mode,
                    limit=limit,
                    offset=offset,
                    collection=collection,
                    kind=kind,
                    degraded=degraded,
                )
            except ModelMismatch:
                # The model was dropped since; by then another one was active.
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _embed_query(
        self, query: str, model: EmbeddingModel, *, required: bool
    ) -> tuple[Sequence[float] | None, str | None]:
        try:
            provider = await self.pipeline.providers.of(model)
            answer = await provider.embed([query])
            if answer.vectors[0] is None:
                raise InvalidInput(
                    f"The query cannot be embedded: {answer.failures[0].message}", operation="search"
                )
        except (EmbeddingError, InvalidInput, ModelMismatch, ConfigError) as error:
            if required:
                raise
            return None, f"Found by words alone: {error.message}"
        return answer.vectors[0], None
