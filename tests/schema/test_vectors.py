"""The vectors of chunks: what is missing, what is known already, what is written, and by which index."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.examples import a_document, a_vector, an_identity, embed, fill, passages, store
from support.locks import waiting_for_locks

from docyard_schema import DocumentRepository, InvalidInput, ModelMismatch, ModelRepository
from docyard_schema.embeddings import (
    ChunkRange,
    MissingVector,
    NewVector,
    VectorRepository,
    build_index,
    index_is_due,
)
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_schema import Database, EmbeddingModel


@pytest.fixture
async def model(database: Database) -> EmbeddingModel:
    return await ModelRepository(database).use(an_identity())


@pytest.fixture
def vectors(database: Database) -> VectorRepository:
    return VectorRepository(database)


def new(chunk: MissingVector, seed: object = 0) -> NewVector:
    return NewVector(chunk_id=chunk.chunk_id, content_hash=chunk.content_hash, embedding=a_vector(seed=seed))


async def write(database: Database, model: EmbeddingModel, *made: NewVector) -> int:
    async with database.transaction() as connection:
        return await VectorRepository(database).write(model, made, connection=connection)


async def texts(vectors: VectorRepository, model: EmbeddingModel, documents: list[UUID]) -> list[str]:
    """The texts that lack vectors, by chunk id."""
    missing = await vectors.missing(model, documents)
    found = await vectors.texts([chunk.chunk_id for chunk in missing])
    return [found[chunk.chunk_id] for chunk in missing]


async def count(database: Database, table: str = "embeddings") -> int:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(f"SELECT count(*) FROM docyard.{table}"))
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def test_what_has_no_vector_is_pending_in_the_order_of_reading(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    documents = DocumentRepository(database)
    first = await documents.store(a_document(source_uri="a"), passages("One.", "Two.", heading="Top"))
    second = await store(database, ["Three."], source_uri="b")
    other = await store(database, ["Not asked for."], source_uri="c")
    both = [first.document_id, second.document_id]
    found = await vectors.missing(model, both)
    assert await texts(vectors, model, both) == ["Top\n\nOne.", "Top\n\nTwo.", "Three."]
    assert [chunk.token_count for chunk in found] == [3, 3, 2]
    assert {chunk.collection for chunk in found} == {"default"}
    assert (
        await vectors.missing(model, ChunkRange(first=found[1].chunk_id, last=found[2].chunk_id)) == found[1:]
    )
    assert await vectors.missing(model, []) == []
    assert await embed(database, model, [first, second]) == 3
    assert await vectors.missing(model, [first.document_id, second.document_id]) == []
    assert len(await vectors.missing(model, [other.document_id])) == 1


async def test_a_stored_vector_of_an_equal_text_is_used_again(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    first = await store(database, ["Common.", "One."], source_uri="a")
    await embed(database, model, [first])
    second = await store(database, ["Two.", "Common.", "Common."], source_uri="b")
    assert await vectors.reuse(model, [second.document_id]) == 2
    assert await texts(vectors, model, [second.document_id]) == ["Two."]
    assert await vectors.reuse(model, [second.document_id]) == 0
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(
                "SELECT count(DISTINCT embedding::text) FROM docyard.embeddings "
                "JOIN docyard.chunks ON id = chunk_id WHERE text = 'Common.'"
            )
        )
        assert await cursor.fetchone() == (1,)


async def test_a_vector_of_another_model_is_not_used(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    other = await ModelRepository(database).register(an_identity("other", 5))
    first = await store(database, ["Common."], source_uri="a")
    await embed(database, model, [first])
    second = await store(database, ["Common."], source_uri="b")
    assert await vectors.reuse(other, [first.document_id, second.document_id]) == 0
    assert len(await vectors.missing(other, [first.document_id])) == 1


async def test_a_stale_vector_is_pending_and_replaced(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database, ["One."], source_uri="a")
    await embed(database, model, [stored])
    twin = await store(database, ["One."], source_uri="b")
    await embed(database, model, [twin])
    async with database.connection() as connection:
        await connection.execute(
            database.sql(
                "UPDATE docyard.embeddings SET content_hash = decode(repeat('00', 32), 'hex') "
                "WHERE chunk_id IN (SELECT id FROM docyard.chunks WHERE document_id = %s)"
            ),
            [stored.document_id],
        )
    assert len(await vectors.missing(model, [stored.document_id])) == 1
    assert await vectors.reuse(model, [stored.document_id]) == 1
    assert await vectors.missing(model, [stored.document_id]) == []
    assert await count(database) == 2


async def test_vectors_of_chunks_that_are_gone_or_changed_are_left_out(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database, ["Stays.", "Goes."])
    stays, goes = await vectors.missing(model, [stored.document_id])
    await store(database, ["Stays.", "Is new."])
    other_text = NewVector(chunk_id=stays.chunk_id, content_hash=b"x" * 32, embedding=a_vector())
    assert await write(database, model, new(goes), new(stays)) == 1
    assert await write(database, model, other_text) == 0
    assert await texts(vectors, model, [stored.document_id]) == ["Is new."]


async def both_wait(url: str) -> bool:
    return await waiting_for_locks(url) == 2


async def test_a_chunk_that_is_removed_while_its_vector_is_written_does_no_harm(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    first = await store(database, ["Goes."], source_uri="a")
    second = await store(database, ["Stays."], source_uri="b")
    pending = await vectors.missing(model, [first.document_id, second.document_id])
    async with database.transaction() as editor:
        await store(database, ["Is new."], source_uri="a", connection=editor)
        writing = asyncio.create_task(write(database, model, *(new(chunk) for chunk in pending)))
        failing = asyncio.create_task(
            vectors.record_failures(model, [(chunk.chunk_id, "x", "x") for chunk in pending])
        )
        await eventually(lambda: both_wait(database.url), what="the writers to wait for the editor")
    assert await writing == 1
    await failing
    assert (await count(database), await count(database, "embedding_failures")) == (1, 1)


async def test_a_chunk_given_twice_is_written_once_with_the_later_vector(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database)
    [chunk] = await vectors.missing(model, [stored.document_id])
    assert await write(database, model, new(chunk, 1), new(chunk, 2)) == 1
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql("SELECT embedding::text::text FROM docyard.embeddings")
        )
        [text] = await cursor.fetchone() or ("",)
    assert [float(part) for part in text[1:-1].split(",")] == pytest.approx(a_vector(seed=2), rel=1e-6)


async def test_writing_belongs_to_the_callers_transaction(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database)
    [chunk] = await vectors.missing(model, [stored.document_id])
    async with await psycopg.AsyncConnection.connect(database.url) as caller:
        assert await vectors.write(model, [new(chunk)], connection=caller) == 1
        await caller.rollback()
    assert await count(database) == 0


async def test_a_vector_that_does_not_fit_is_refused_and_nothing_is_written(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database, ["One.", "Two."])
    one, two = await vectors.missing(model, [stored.document_id])
    wrong = NewVector(chunk_id=two.chunk_id, content_hash=two.content_hash, embedding=[1.0, 2.0])
    with pytest.raises(InvalidInput, match="3 numbers is expected, got 2"):
        await write(database, model, new(one), wrong)
    assert await count(database) == 0


async def test_a_model_that_was_dropped_takes_no_vectors(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database)
    [chunk] = await vectors.missing(model, [stored.document_id])
    async with database.connection() as connection:
        await connection.execute(database.sql(f"DROP TABLE docyard.{model.partition}"))
        await connection.execute(database.sql("DELETE FROM docyard.embedding_models"))
    with pytest.raises(ModelMismatch, match="is no longer registered") as caught:
        await write(database, model, new(chunk))
    assert caught.value.hint
    assert await vectors.reuse(model, [stored.document_id]) == 0


async def test_what_the_model_refused_is_not_pending_until_its_text_changes(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database, ["Refused.", "Fine."])
    refused, fine = await vectors.missing(model, [stored.document_id])
    nasty = "x\x00y\ud800" + "z" * 2000
    await vectors.record_failures(
        model, [(refused.chunk_id, "too_long", nasty), (-1, "x", "a chunk that is gone")]
    )
    await vectors.record_failures(
        model, [(refused.chunk_id, "too_long", "first"), (refused.chunk_id, "content", "again")]
    )
    await vectors.record_failures(model, [])
    assert await vectors.missing(model, [stored.document_id]) == [fine]
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql("SELECT attempts, code, message FROM docyard.embedding_failures")
        )
        assert await cursor.fetchall() == [(2, "content", "again")]
    again = await store(database, ["Refused, edited.", "Fine."])
    assert await texts(vectors, model, [again.document_id]) == [
        "Fine.",
        "Refused, edited.",
    ]


async def test_deleting_a_document_takes_its_chunks_vectors_and_failures_along(database: Database) -> None:
    await fill(database)
    async with database.connection() as connection:
        await connection.execute(database.sql("DELETE FROM docyard.documents"))
    for table in ("document_versions", "chunks", "embeddings", "embedding_failures"):
        assert await count(database, table) == 0


async def test_writers_of_the_same_vectors_at_once_do_not_wait_for_each_other_for_ever(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    stored = await store(database, [f"Text {number}." for number in range(60)])
    pending = await vectors.missing(model, [stored.document_id])
    made = [new(chunk) for chunk in pending]
    async with asyncio.timeout(30):
        written = await asyncio.gather(
            *(write(database, model, *(made if turn % 2 else reversed(made))) for turn in range(6)),
            *(vectors.reuse(model, [stored.document_id]) for _ in range(3)),
        )
    assert written[:6] == [60] * 6
    assert await count(database) == 60


async def index_state(database: Database) -> list[tuple[str, bool]]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
            "WHERE c.relname LIKE '%hnsw%' ORDER BY 1"
        )
        return await cursor.fetchall()


async def test_the_index_of_vectors_is_valid_and_serves_a_search(
    database: Database, model: EmbeddingModel
) -> None:
    stored = await store(database, [f"Text {number}." for number in range(300)])
    await embed(database, model, [stored])
    await build_index(database, model)
    async with database.connection() as connection:
        await connection.execute(database.sql("ANALYZE docyard.embeddings"))
    assert await index_state(database) == [(f"{model.partition}_hnsw", True)]
    async with database.transaction() as connection:
        # Few rows: the planner would rather read them all.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        plan = await explain(
            database,
            "SELECT chunk_id FROM docyard.embeddings WHERE model_id = 1 "
            "ORDER BY embedding::pgvector.halfvec(3) "
            "OPERATOR(pgvector.<=>) '[1,2,3]'::pgvector.halfvec(3) LIMIT 5",
            {},
            connection,
        )
    assert f"Index Scan using {model.partition}_hnsw" in plan


async def test_an_invalid_index_is_replaced_and_a_valid_one_kept(
    database: Database, model: EmbeddingModel
) -> None:
    await embed(database, model, [await store(database)])
    await build_index(database, model)

    async def identity() -> Any:
        async with database.connection() as connection:
            cursor = await connection.execute(
                database.sql(f"SELECT 'docyard.{model.partition}_hnsw'::regclass::oid")
            )
            return await cursor.fetchone()

    first = await identity()
    await build_index(database, model)
    assert await identity() == first
    async with database.connection() as connection:
        await connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s", first)
    assert await index_state(database) == [(f"{model.partition}_hnsw", False)]
    await build_index(database, model)
    assert await identity() != first
    assert await index_state(database) == [(f"{model.partition}_hnsw", True)]


async def test_several_that_build_the_index_at_once_build_one(
    database: Database, model: EmbeddingModel
) -> None:
    await embed(database, model, [await store(database, [str(number) for number in range(200)])])
    async with asyncio.timeout(60):
        await asyncio.gather(*(build_index(database, model) for _ in range(3)))
    assert await index_state(database) == [(f"{model.partition}_hnsw", True)]


async def test_an_index_is_due_when_there_are_many_vectors_and_no_valid_one(
    database: Database, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await embed(database, model, [await store(database, [str(number) for number in range(50)])])
    assert not await index_is_due(database, model)
    monkeypatch.setattr("docyard_schema.embeddings.vector_index.ROWS_WORTH_AN_INDEX", 50)
    assert not await index_is_due(database, model), "nothing is known before the first ANALYZE"
    async with database.connection() as connection:
        await connection.execute(database.sql(f"ANALYZE docyard.{model.partition}"))
    assert await index_is_due(database, model)
    await build_index(database, model)
    assert not await index_is_due(database, model)


async def explain(database: Database, statement: str, parameters: dict[str, object], connection: Any) -> str:
    cursor = await connection.execute(database.sql(f"EXPLAIN {statement}"), parameters)
    return "\n".join(line for (line,) in await cursor.fetchall())


async def many(database: Database, model: EmbeddingModel, documents: int = 2000) -> list[UUID]:
    """Documents of ten chunks each, most of them with a vector."""
    async with database.connection() as connection:
        await connection.execute(
            database.sql(
                """
                WITH made AS (
                    INSERT INTO docyard.documents (id, kind, collection, source_uri)
                    SELECT gen_random_uuid(), 'file', 'many', n::text
                    FROM generate_series(1, %(documents)s) AS n
                    RETURNING id
                ), chunked AS (
                    INSERT INTO docyard.chunks (document_id, ordinal, text, content_hash, token_count)
                    SELECT id, n, 'text', sha256((id::text || n)::bytea), 1
                    FROM made, generate_series(1, 10) AS n
                    RETURNING id, content_hash, ordinal
                )
                INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash)
                SELECT %(model)s, id, '[1,2,3]', content_hash FROM chunked WHERE ordinal < 10
                """
            ),
            {"documents": documents, "model": model.id},
        )
        await connection.execute("ANALYZE")
        cursor = await connection.execute(
            database.sql("SELECT id FROM docyard.documents WHERE collection = 'many' LIMIT 3")
        )
        return [id for (id,) in await cursor.fetchall()]


@pytest.mark.parametrize("name", ["missing_of_documents", "reuse_in_documents"])
async def test_the_queries_of_a_few_documents_among_many_use_indexes(
    database: Database, model: EmbeddingModel, name: str
) -> None:
    chosen = await many(database, model)
    statement = getattr(load_statements("docyard_schema.embeddings", "vectors.sql"), name)
    async with database.connection() as connection:
        plan = await explain(database, statement, {"model": model.id, "documents": chosen}, connection)
        # And with a plan that is made once for all parameters, as prepared statements come to have.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        generic = await explain(database, statement, {"model": model.id, "documents": chosen}, connection)
    for told in (plan, generic):
        for table in ("chunks", model.partition):
            assert f"Seq Scan on {table}" not in told, told
        assert "chunks_order_idx" in told or "chunks_document_id" in told
        assert f"{model.partition}_pkey" in told
    if name.startswith("reuse"):
        assert f"{model.partition}_content_hash_idx" in plan


async def test_reuse_and_pending_of_one_document_read_few_rows_even_so(
    database: Database, model: EmbeddingModel, vectors: VectorRepository
) -> None:
    chosen = await many(database, model)
    found = await vectors.missing(model, chosen)
    assert len(found) == 3
    assert await vectors.reuse(model, chosen) == 0
