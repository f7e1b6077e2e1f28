"""The vector branch: its input, its settings, and what happens without it."""

from __future__ import annotations

import pytest
from psycopg import AsyncConnection

from docyard_schema import InvalidInput, ModelMismatch
from docyard_schema.embeddings import build_index


async def test_nearest_documents_come_first(library, search) -> None:
    far = await library.add("far", vectors=[(0, 1, 0)])
    near = await library.add([((), "one"), ((), "two")], vectors=[(-1, 0, 0), (0.9, 0.1, 0)])
    opposite = await library.add("opposite", vectors=[(-1, 0, 0)])
    hits = await search.search("anything", mode="vector", vector=(1, 0, 0), model=library.model)
    assert [hit.document_id for hit in hits] == [near, far, opposite]
    assert hits[0].snippet == "two"
    assert hits[2].similarity == pytest.approx(-1, abs=1e-3)


async def test_without_a_vector_words_alone_are_searched_and_the_result_says_so(library, search) -> None:
    found = await library.add("apple")
    result = await search.search("apple")
    assert [hit.document_id for hit in result] == [found]
    assert result.degraded == "Found by words alone: no embedding model is active."
    model = await library.use_model(2)
    assert "not embedded" in (await search.search("apple", model=model)).degraded
    assert (await search.search("apple", model=model, degraded="The provider is down.")).degraded == (
        "The provider is down."
    )
    assert (await search.search("apple", mode="text")).degraded is None


async def test_a_vector_search_demands_a_model_and_a_vector(library, search) -> None:
    model = await library.use_model(2)
    with pytest.raises(InvalidInput, match="no model"):
        await search.search("apple", mode="vector", vector=(1, 0))
    with pytest.raises(InvalidInput, match="no vector"):
        await search.search("apple", mode="vector", model=model)


async def test_vectors_without_a_direction_are_refused(library, search) -> None:
    model = await library.use_model(2)
    for vector in ((0, 0), (float("nan"), 1), (float("inf"), 1)):
        with pytest.raises(InvalidInput):
            await search.search("apple", vector=vector, model=model)


async def test_a_vector_of_another_model_is_refused(library, search, database) -> None:
    model = await library.use_model(2)
    with pytest.raises(ModelMismatch, match="has 3 numbers"):
        await search.search("apple", vector=(1, 0, 0), model=model)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM docyard.embedding_models")
    with pytest.raises(ModelMismatch, match="no longer registered"):
        await search.search("apple", vector=(1, 0), model=model)


async def test_vectors_of_any_length_are_compared_by_direction(library, search) -> None:
    await library.add("apple", vectors=[(1, 1)])
    for size in (1e-30, 1.0, 1e30):
        (hit,) = await search.search("pear", vector=(size, size), model=library.model)
        assert hit.similarity == pytest.approx(1, abs=1e-3)


async def test_the_index_gives_as_many_as_asked_for_under_a_filter(library, search, url) -> None:
    await library.fill(6000)
    await build_index(library.database, library.model)
    query = {"vector": [1.0, *[0.0] * 7], "model": library.model, "mode": "vector"}
    # A connection that has never loaded pgvector: its settings are unknown there until then.
    async with await AsyncConnection.connect(url, autocommit=True) as fresh:
        assert len(await search.search("x", limit=90, connection=fresh, **query)) == 90
    assert len(await search.search("x", limit=90, kind="rare", **query)) == 90


async def test_a_search_leaves_no_setting_in_the_callers_transaction(library, search, database) -> None:
    await library.add("apple", vectors=[(1, 0)])
    async with database.transaction() as connection:
        await search.search("apple", vector=(1, 0), model=library.model, connection=connection)
        cursor = await connection.execute(
            "SELECT current_setting('hnsw.ef_search'), current_setting('plan_cache_mode')"
        )
        assert await cursor.fetchone() == ("40", "auto")
    async with await database.pool.getconn() as connection:
        cursor = await connection.execute("SHOW plan_cache_mode")
        assert await cursor.fetchone() == ("auto",)
        await database.pool.putconn(connection)


async def test_a_search_sees_what_the_callers_transaction_wrote(library, search, database) -> None:
    await library.add("apple pie")
    async with database.transaction() as connection:
        await connection.execute("UPDATE docyard.documents SET deleted_at = now()")
        assert len(await search.search("apple", mode="text", connection=connection)) == 0
    assert len(await search.search("apple", mode="text")) == 0
