"""Embedding models: the first is taken, another is refused, and two that come first at once agree."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.eventually import eventually
from support.examples import a_vector, an_identity, embed, fill, store
from support.locks import locks_on, waiting_for_locks

from docyard_schema import (
    Conflict,
    Database,
    DatabaseSettings,
    DocumentRepository,
    InvalidInput,
    ModelMismatch,
    ModelRepository,
)
from docyard_schema.embeddings import NewVector, VectorRepository

if TYPE_CHECKING:
    from docyard_schema import EmbeddingModel, Stored


async def test_an_empty_database_takes_the_first_model(database: Database) -> None:
    models = ModelRepository(database)
    assert await models.active() is None
    model = await models.use(an_identity("first", 7))
    assert (model.name, model.dimension, model.state) == ("first", 7, "active")
    assert model.activated_at is not None
    assert await models.active() == model
    assert await models.list() == [model]


async def test_using_the_same_model_again_changes_nothing(database: Database) -> None:
    models = ModelRepository(database)
    first = await models.use(an_identity())
    assert await models.use(an_identity()) == first
    assert await models.register(an_identity()) == first
    assert await models.list() == [first]


@pytest.mark.parametrize(
    "other",
    [
        an_identity("other"),
        an_identity(dimension=4),
        an_identity(hash="cd" * 32),
        an_identity(provider="someone else"),
    ],
)
async def test_another_model_is_refused_naming_both(database: Database, other) -> None:  # type: ignore[no-untyped-def]
    models = ModelRepository(database)
    first = await models.use(an_identity())
    with pytest.raises(ModelMismatch) as caught:
        await models.use(other)
    assert first.identity.describe() in caught.value.message
    assert other.describe() in caught.value.message
    assert "DOCYARD_EMBEDDING_MODEL" in caught.value.hint
    assert await models.list() == [first]


async def test_a_name_that_is_taken_is_refused_naming_both(database: Database) -> None:
    models = ModelRepository(database)
    first = await models.register(an_identity())
    other = an_identity(dimension=4)
    with pytest.raises(ModelMismatch, match="The model name 'model' is taken") as caught:
        await models.register(other)
    assert first.identity.describe() in caught.value.message
    assert other.describe() in caught.value.message


async def test_many_that_come_first_at_once_see_the_same_model(database: Database) -> None:
    found = await asyncio.gather(*(ModelRepository(database).use(an_identity()) for _ in range(8)))
    assert len({model.id for model in found}) == 1
    assert {model.state for model in found} == {"active"}


async def test_of_two_different_models_that_come_first_at_once_one_wins_and_the_other_is_told(
    database: Database,
) -> None:
    models = ModelRepository(database)
    outcomes = await asyncio.gather(
        *(models.use(an_identity(f"model {number}", 2 + number)) for number in range(4)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(ModelMismatch) == 3
    active = await models.active()
    assert active in outcomes
    for outcome in outcomes:
        assert outcome == active or active.identity.describe() in str(outcome)  # type: ignore[union-attr]


def test_two_processes_that_come_first_at_once_see_the_same_model(url: str) -> None:
    script = """
import asyncio, sys
from docyard_schema import Database, ModelIdentity, ModelRepository

async def main():
    async with await Database.connect(sys.argv[1]) as database:
        identity = ModelIdentity(name="m", provider="p", dimension=3, hash="ab" * 32)
        print((await ModelRepository(database).use(identity)).id)

asyncio.run(main())
"""
    both = [subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != b""


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dimension": 0}, "1 to 4,000, got 0"),
        ({"dimension": 4001}, "1 to 4,000, got 4001"),
        ({"hash": "xyz"}, "64 hexadecimal digits"),
    ],
)
async def test_a_model_that_cannot_be_is_refused(
    database: Database, fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        await ModelRepository(database).use(an_identity(**fields))  # type: ignore[arg-type]


async def test_two_models_have_their_vectors_side_by_side(database: Database) -> None:
    models = ModelRepository(database)
    stored = await store(database)
    small, large = (
        await models.use(an_identity("small", 2)),
        await models.register(an_identity("large", 4000)),
    )
    assert await embed(database, small, [stored]) == 1
    assert await embed(database, large, [stored]) == 1
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(
                "SELECT model, state, embedded, missing FROM docyard.embedding_coverage ORDER BY model"
            )
        )
        assert await cursor.fetchall() == [("large", "building", 1, 0), ("small", "active", 1, 0)]


async def test_a_partition_takes_vectors_of_its_dimension_only(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity(dimension=3))
    await store(database)
    async with database.connection() as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"{model.partition}_dimension"):
            await connection.execute(
                database.sql(
                    "INSERT INTO docyard.embeddings SELECT %s, id, '[1,2]', content_hash FROM docyard.chunks"
                ),
                [model.id],
            )


async def hold_vectors(database: Database, model: EmbeddingModel, release: asyncio.Event) -> None:
    stored = await store(database, source_uri="held")
    async with database.transaction() as connection:
        [chunk] = await VectorRepository(database).missing(model, [stored.document_id], connection=connection)
        vector = NewVector(chunk_id=chunk.chunk_id, content_hash=chunk.content_hash, embedding=a_vector())
        await VectorRepository(database).write(model, [vector], connection=connection)
        await release.wait()


async def hold_chunks(database: Database, release: asyncio.Event) -> Stored:
    async with database.transaction() as connection:
        stored = await store(database, ["Held."], connection=connection, source_uri="held chunks")
        await release.wait()
    return stored


async def test_a_new_model_waits_for_nobody_who_searches_or_writes_vectors(database: Database) -> None:
    model, release = await fill(database), asyncio.Event()
    writing = asyncio.create_task(hold_vectors(database, model, release))
    await eventually(
        lambda: locks_on(database.url, "docyard.embeddings", "RowExclusiveLock"),
        what="the writer to hold its locks",
    )
    async with asyncio.timeout(5), database.transaction() as connection:
        await connection.execute(database.sql("SELECT count(*) FROM docyard.embeddings"))
        second = await ModelRepository(database).register(an_identity("second"))
        assert await embed(database, second, [await store(database, source_uri="beside")]) == 1
    release.set()
    await writing


async def test_a_new_model_waits_for_writers_of_chunks_and_others_do_not_wait_long_for_it(
    database: Database,
) -> None:
    model, release = await fill(database), asyncio.Event()
    writing = asyncio.create_task(hold_chunks(database, release))
    await eventually(
        lambda: locks_on(database.url, "docyard.chunks", "RowExclusiveLock"),
        what="the writer to hold its locks",
    )
    registering = asyncio.create_task(ModelRepository(database).register(an_identity("second")))
    await eventually(lambda: waiting_for_locks(database.url), what="the new model to wait")
    async with asyncio.timeout(5):
        assert await embed(database, model, [await store(database, source_uri="beside")]) == 1
    release.set()
    held, second = await writing, await registering
    chunks = await DocumentRepository(database).chunks(held.document_id)
    assert second.backfill_to >= chunks[0].id, "what was there before is the migration's"
    later = await DocumentRepository(database).chunks((await store(database, source_uri="l")).document_id)
    assert later[0].id > second.backfill_to, "what comes later brings a job of its own"


async def test_a_new_model_that_gets_no_lock_gives_up_and_leaves_nothing(url: str) -> None:
    settings = DatabaseSettings(migration_timeout_seconds=0.2)
    async with await Database.connect(url, settings=settings) as database:
        await database.initialize()
        await fill(database)
        release = asyncio.Event()
        writing = asyncio.create_task(hold_chunks(database, release))
        await eventually(
            lambda: locks_on(database.url, "docyard.chunks", "RowExclusiveLock"),
            what="the writer to hold its locks",
        )
        with pytest.raises(Conflict, match=r"The partition of second got no lock within 0\.2 s") as caught:
            await ModelRepository(database).register(an_identity("second"))
        assert caught.value.retryable
        release.set()
        await writing
        assert [one.name for one in await ModelRepository(database).list()] == ["model"]
        assert (await ModelRepository(database).register(an_identity("second"))).state == "building"
