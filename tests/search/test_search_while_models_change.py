"""A search while the model is changed, changed back and dropped: never an error, never empty, never mixed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.yards import open_yard

from docyard_schema import DocumentRepository, ModelMismatch, ModelRepository
from docyard_schema.embeddings import NewVector, VectorRepository
from docyard_workers.embed.providers import EmbeddingConfig, Providers

from support.examples import a_vector, an_identity, store  # isort: skip

if TYPE_CHECKING:
    from docyard import Docyard
    from docyard_schema import Database, DocumentSearch, EmbeddingModel, Stored

QUERY = "whistle"
TITLES = [f"Document {number}" for number in range(6)]


async def library(database: Database) -> list[Stored]:
    return [await store(database, [title], source_uri=title, title=title) for title in TITLES]


async def give_vectors(
    yard: Docyard, model: EmbeddingModel, documents: list[Stored], *, order: list[int]
) -> None:
    """Vectors by which a search for QUERY finds the documents in this order, and in no other model's."""
    provider = await yard.pipeline.providers.of(model)
    query = list((await provider.embed([QUERY])).vectors[0] or [])
    async with yard.database.transaction() as connection:
        for rank, number in enumerate(order):
            [chunk] = await DocumentRepository(yard.database).chunks(documents[number].document_id)
            noise = a_vector(model.dimension, number)
            vector = [a + 0.02 * (rank + 1) * b for a, b in zip(query, noise, strict=True)]
            new = NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=vector)
            await VectorRepository(yard.database).write(model, [new], connection=connection)


async def test_searches_during_changes_of_models_never_fail_are_empty_or_mix(url: str) -> None:
    async with open_yard(url) as yard:
        models, documents = ModelRepository(yard.database), await library(yard.database)
        asked = Providers(EmbeddingConfig(provider="wordllama"), {})
        orders = {"wordllama-256": [0, 1, 2, 3, 4, 5], "wordllama-64": [5, 4, 3, 2, 1, 0]}
        await yard.pipeline.provider.start()
        first = await models.use(yard.pipeline.provider.model, settings=yard.pipeline.providers.settings)
        await give_vectors(yard, first, documents, order=orders[first.name])
        identity, settings = await asked.asked(model="wordllama-64")
        done = asyncio.Event()
        seen: set[tuple[str, ...]] = set()
        count = 0

        async def search() -> None:
            nonlocal count
            while not done.is_set():
                found = await yard.search(QUERY, mode="vector")
                seen.add(tuple(hit.title or "" for hit in found))
                hybrid = await yard.search(QUERY, mode="hybrid")
                assert hybrid.degraded is None
                assert len(hybrid) == len(TITLES)
                count += 1

        searching = [asyncio.create_task(search()) for _ in range(3)]
        try:
            for _ in range(6):
                other = await models.register(identity, settings=settings)
                await give_vectors(yard, other, documents, order=orders[other.name])
                await models.activate(other.name)
                await models.rollback()
                await models.rollback()
                # The first is dropped, and comes again as another.
                await models.drop(first.name)
                first = await models.register(first.identity, settings=first.settings)
                await give_vectors(yard, first, documents, order=orders[first.name])
                await models.activate(first.name)
                await models.drop(other.name)
        finally:
            done.set()
            await asyncio.gather(*searching)
        await asked.aclose()
    assert count > 20
    assert seen == {tuple(TITLES[number] for number in order) for order in orders.values()}


async def test_a_model_cannot_be_dropped_between_the_two_statements_of_a_search(
    database: Database, search: DocumentSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelRepository(database)
    await library(database)
    old, _ = await models.use(an_identity("old")), await models.register(an_identity("new"))
    async with database.transaction() as connection:
        await search.search("x", vector=a_vector(), model=old, mode="vector", connection=connection)
        cursor = await connection.execute(
            "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = %s::regclass",
            ["docyard.embeddings"],
        )
        assert await cursor.fetchall() == [("AccessShareLock",)]
    prepared = search._prepare

    async def prepare(connection, *rest):  # type: ignore[no-untyped-def]
        found = await prepared(connection, *rest)
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = %s::regclass",
            ["docyard.embeddings"],
        )
        assert await cursor.fetchone() == (1,)
        return found

    monkeypatch.setattr(search, "_prepare", prepare)
    for _ in range(8):  # as often as makes the server keep a plan
        await search.search("x", vector=a_vector(), model=old, mode="vector")


async def test_a_search_with_a_model_that_was_dropped_says_so(
    database: Database, search: DocumentSearch
) -> None:
    models = ModelRepository(database)
    await models.use(an_identity("old"))
    new = await models.register(an_identity("new"))
    await models.drop("new")
    with pytest.raises(ModelMismatch, match="no longer registered"):
        await search.search("x", vector=a_vector(), model=new, mode="vector")
