"""The HNSW index of a model: how it is built, how far it is, and what becomes of one that was cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.examples import a_vector, an_identity, embed, store

from docyard_schema import Database, InvalidInput, ModelRepository
from docyard_schema.embeddings import IndexOptions, IndexState, build_index, index_is_due, index_state
from docyard_schema.search import DocumentSearch

if TYPE_CHECKING:
    from docyard_schema import EmbeddingModel


async def filled(database: Database, dimension: int, texts: int = 40) -> EmbeddingModel:
    model = await ModelRepository(database).use(an_identity(f"m{dimension}", dimension))
    await embed(database, model, [await store(database, [f"Text {number}." for number in range(texts)])])
    async with database.connection() as connection:
        await connection.execute(database.sql(f"ANALYZE docyard.{model.partition}"))
    return model


async def definition(database: Database, model: EmbeddingModel) -> str:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT pg_get_indexdef(%s::regclass)", [f"docyard.{model.partition}_hnsw"]
        )
        row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def rows_in(database: Database, model: EmbeddingModel, count: int) -> None:
    """Many vectors without documents to speak of: enough for a build to take a while."""
    async with database.connection() as connection:
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.chunks (document_id, ordinal, text, content_hash, token_count, lexemes, "
                "length) SELECT (SELECT id FROM docyard.documents LIMIT 1), 1000 + n, n::text, "
                "sha256(n::text::bytea), 1, '', 1 FROM generate_series(1, %s) AS n"
            ),
            [count],
        )
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash) "
                "SELECT %s, chunk.id, random.vector::pgvector.vector, chunk.content_hash "
                "FROM docyard.chunks AS chunk CROSS JOIN LATERAL (SELECT array_agg(random() - 0.5) AS vector "
                "FROM generate_series(chunk.id, chunk.id + %s)) AS random WHERE chunk.ordinal > 1000"
            ),
            [model.id, model.dimension - 1],
        )


@pytest.mark.parametrize("dimension", [3, 2000, 2001, 3072, 4000])
async def test_vectors_of_any_dimension_are_indexed_and_found_by_the_index(
    database: Database, dimension: int
) -> None:
    model = await filled(database, dimension)
    await build_index(database, model)
    assert f"halfvec({dimension})" in await definition(database, model)
    assert (await index_state(database, model)).valid
    wanted = a_vector(dimension, "0 Text 7.")
    literal = ",".join(map(str, wanted))
    nearest = (
        f"SELECT chunk_id FROM docyard.embeddings WHERE model_id = {model.id} ORDER BY "
        f"embedding::pgvector.halfvec({dimension}) OPERATOR(pgvector.<=>) "
        f"'[{literal}]'::pgvector.halfvec({dimension}) LIMIT 1"
    )
    async with database.transaction() as connection:
        # Few rows: the planner would rather read them all.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor = await connection.execute(database.sql(f"EXPLAIN {nearest}"))
        assert f"Index Scan using {model.partition}_hnsw" in str(await cursor.fetchall())
        cursor = await connection.execute(
            database.sql(f"SELECT text FROM docyard.chunks WHERE id = ({nearest})")
        )
        assert await cursor.fetchone() == ("Text 7.",)


async def test_a_search_of_3072_dimensions_finds_by_meaning(
    database: Database,
) -> None:
    model = await filled(database, 3072)
    await build_index(database, model)
    vector = a_vector(3072, "0 Text 7.")
    [first, *_] = await DocumentSearch(database).search("text", vector=vector, model=model, mode="vector")
    assert first.similarity == pytest.approx(1, abs=0.001)


async def test_an_index_is_built_as_the_options_say(database: Database) -> None:
    model = await filled(database, 3)
    await build_index(database, model, m=24, ef_construction=100)
    made = await definition(database, model)
    assert "m='24'" in made
    assert "ef_construction='100'" in made
    await build_index(database, model, m=8)
    assert await definition(database, model) == made, "a valid one stays as it is"


async def test_by_itself_an_index_is_built_with_pgvectors_own_numbers(database: Database) -> None:
    model = await filled(database, 3)
    await build_index(database, model)
    made = await definition(database, model)
    assert "m='16'" in made
    assert "ef_construction='64'" in made


@pytest.mark.parametrize(
    "options",
    [
        {"m": 1},
        {"m": 101},
        {"ef_construction": 3},
        {"ef_construction": 1001},
        {"m": 40},
        {"m": 16, "ef_construction": 31},
    ],
)
def test_options_that_no_index_can_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="at least 2 \\* m") as caught:
        IndexOptions(**options)
    assert "DOCYARD_VECTOR_INDEX_M" in caught.value.hint


async def test_a_build_says_how_far_it_is_and_one_that_is_cut_off_is_found_and_made_again(
    database: Database,
) -> None:
    model = await filled(database, 64, texts=1)
    await rows_in(database, model, 4000)
    assert (await index_state(database, model)).valid is None
    building = asyncio.create_task(build_index(database, model, m=64, ef_construction=400))

    async def under_way() -> IndexState | None:
        state = await index_state(database, model)
        return state if state.phase is not None and "building" in state.phase else None

    state = await eventually(under_way, seconds=60, what="the build to tell its progress")
    assert 0 <= state.done <= 1
    assert not await index_is_due(database, model), "one is being built"
    async with database.connection() as connection:
        # As when the server or the worker dies in the middle.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index "
            "WHERE datname = current_database()"
        )
    with pytest.raises(psycopg.OperationalError):
        await building
    state = await index_state(database, model)
    assert (state.valid, state.phase) == (False, None)
    assert await index_is_due(database, model), "it is invalid, however few vectors there are"
    await build_index(database, model)
    assert (await index_state(database, model)).valid
    assert not await index_is_due(database, model)


async def test_the_index_of_a_model_that_is_not_active_is_built_beside_the_other(
    database: Database,
) -> None:
    first = await filled(database, 3)
    second = await ModelRepository(database).register(an_identity("second", 5))
    await asyncio.gather(build_index(database, first), build_index(database, second))
    for model in (first, second):
        assert (await index_state(database, model)).valid
    await ModelRepository(database).drop("second")
    assert (await index_state(database, second)).valid is None
