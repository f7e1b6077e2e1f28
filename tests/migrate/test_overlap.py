"""The samples that are shown before a model is activated: what its index finds, and how it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.examples import an_identity, embed, store
from support.yards import rows

from docyard_schema import DocumentRepository, ModelRepository, VectorRepository
from docyard_schema.embeddings import NewVector, build_index
from docyard_schema.embeddings.overlap import nearest_statement, sample_quality

if TYPE_CHECKING:
    from docyard_schema import Database, EmbeddingModel, Stored


async def _texts(database: Database, number: int) -> Stored:
    return await store(database, [f"Text {place}." for place in range(number)], source_uri="a")


async def _like(database: Database, model: EmbeddingModel, other: EmbeddingModel) -> None:
    """Give ``other`` the vectors of ``model``."""
    await rows(
        database,
        "INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash) "
        "SELECT %s, chunk_id, embedding, content_hash FROM docyard.embeddings WHERE model_id = %s "
        "RETURNING 1",
        other.id,
        model.id,
    )


async def test_without_an_index_a_search_is_exact(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity(dimension=8))
    await embed(database, model, [await _texts(database, 40)])
    found = await sample_quality(database, model, questions=30)
    assert (found.neighbours, found.recall, found.overlap) == (10, 1.0, None)
    assert 10 < found.questions <= 30
    assert found == await sample_quality(database, model, questions=30), "the same questions each time"


async def test_an_index_is_compared_with_the_exact_answer(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity(dimension=8))
    await embed(database, model, [await _texts(database, 200)])
    await build_index(database, model)
    found = await sample_quality(database, model)
    assert found.recall is not None
    assert 0.95 <= found.recall <= 1


async def test_the_exact_answer_goes_by_no_index_and_the_other_by_the_models_own(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity(dimension=8))
    await embed(database, model, [await _texts(database, 200)])
    await build_index(database, model)
    values = {"vector": "[1,2,3,4,5,6,7,8]", "limit": 11}
    async with database.transaction() as connection:
        # As if there were too many to sort.
        await connection.execute("SET LOCAL enable_sort = off")
        plans = {}
        for exact in (False, True):
            statement = database.sql(f"EXPLAIN {nearest_statement(model, exact=exact)}")
            cursor = await connection.execute(statement, values, prepare=False)
            plans[exact] = "\n".join(row[0] for row in await cursor.fetchall())
    assert f"{model.partition}_hnsw" in plans[False]
    assert "_hnsw" not in plans[True]


async def test_the_same_vectors_overlap_wholly_and_others_by_chance(database: Database) -> None:
    models = ModelRepository(database)
    one = await models.use(an_identity(dimension=8))
    same = await models.register(an_identity("same", 8, hash="cd" * 32))
    other = await models.register(an_identity("other", 8, hash="ef" * 32))
    stored = await _texts(database, 200)
    await embed(database, one, [stored])
    await _like(database, one, same)
    await embed(database, other, [stored], seed="another")
    assert (await sample_quality(database, one, same)).overlap == 1.0
    differs = (await sample_quality(database, one, other)).overlap
    assert differs is not None
    assert differs < 0.3


async def test_equal_texts_do_not_count_as_missed(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity(dimension=3))
    stored = await _texts(database, 40)
    chunks = await DocumentRepository(database).chunks(stored.document_id)
    alike = [
        NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=[1, 2, 3]) for chunk in chunks
    ]
    async with database.transaction() as connection:
        await VectorRepository(database).write(model, alike, connection=connection)
    await build_index(database, model)
    assert (await sample_quality(database, model)).recall == 1.0


async def test_a_model_of_few_vectors_has_few_neighbours_and_one_of_none_no_answer(
    database: Database,
) -> None:
    model = await ModelRepository(database).use(an_identity())
    nothing = await sample_quality(database, model)
    assert (nothing.questions, nothing.recall) == (0, None)
    await embed(database, model, [await _texts(database, 4)])
    few = await sample_quality(database, model)
    assert (few.neighbours, few.recall) == (3, 1.0)
