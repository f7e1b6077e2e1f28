"""Another model becomes the active one: at one moment, and never so that a search finds less."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.examples import a_vector, an_identity, embed, store
from support.locks import waiting_for_locks

from docyard_schema import (
    ConfigError,
    Conflict,
    Database,
    DatabaseSettings,
    DocumentRepository,
    InvalidInput,
    ModelMismatch,
    ModelRepository,
    NotFound,
    VerificationError,
)
from docyard_schema.embedded import EmbeddedServer
from docyard_schema.embeddings import NewVector, VectorRepository
from docyard_schema.search import DocumentSearch

if TYPE_CHECKING:
    from pathlib import Path

    from docyard_schema import EmbeddingModel

NOT_AT_ALL = timedelta(0)


@pytest.fixture
def models(database: Database) -> ModelRepository:
    return ModelRepository(database)


async def two(models: ModelRepository) -> tuple[EmbeddingModel, EmbeddingModel]:
    """An active model and one that is being built."""
    return await models.use(an_identity("old")), await models.register(an_identity("new", 5))


async def states(models: ModelRepository) -> dict[str, str]:
    return {model.name: model.state for model in await models.list()}


async def test_a_model_that_has_all_vectors_becomes_active_and_the_other_one_retires(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database, ["One.", "Two."])
    old, new = await two(models)
    await embed(database, old, [document])
    await embed(database, new, [document])
    activated = await models.activate("new")
    assert (activated.id, activated.state) == (new.id, "active")
    assert activated.activated_at is not None
    assert await models.active() == activated
    assert await states(models) == {"old": "retired", "new": "active"}
    retired = await models.get("old")
    assert retired is not None
    assert retired.retired_at is not None
    assert await models.activate("new") == activated, "again changes nothing"


async def test_a_model_that_lacks_vectors_of_what_was_there_is_refused_with_counts(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database, ["One.", "Two.", "Three."])
    old, _ = await two(models)
    await embed(database, old, [document])
    with pytest.raises(VerificationError, match="lacks vectors: of 3 chunks that were there") as caught:
        await models.activate("new")
    assert (caught.value.details["missing"], caught.value.details["late"]) == (3, 0)
    assert "docyard migrate reembed --model new" in caught.value.hint
    assert await states(models) == {"old": "active", "new": "building"}


async def test_what_neither_model_has_yet_counts_if_it_was_there_and_is_on_its_way_if_it_came_later(
    database: Database, models: ModelRepository
) -> None:
    before = await store(database, ["Before."], source_uri="before")
    _, new = await two(models)
    with pytest.raises(VerificationError):
        await models.activate("new")
    await embed(database, new, [before])
    await store(database, ["After."], source_uri="after")
    assert (await models.activate("new", patience=NOT_AT_ALL)).state == "active"


async def test_what_came_later_and_only_the_active_model_finds_is_waited_for_and_then_counts(
    database: Database, models: ModelRepository
) -> None:
    old, new = await two(models)
    later = await store(database, ["One.", "Two."])
    await embed(database, old, [later])
    with pytest.raises(VerificationError, match="of 2 that came later") as caught:
        await models.activate("new", patience=NOT_AT_ALL)
    assert (caught.value.details["never_made"], caught.value.details["late"]) == (0, 2)
    activating = asyncio.create_task(models.activate("new", patience=timedelta(seconds=20)))
    await eventually(lambda: has_gate(database, old), what="the cut-over to hold the active model")
    assert not activating.done()
    await embed(database, new, [later])
    assert (await activating).state == "active"


async def test_texts_that_the_model_refused_do_not_count_unless_wanted(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database)
    old, new = await two(models)
    await embed(database, old, [document])
    [chunk] = await DocumentRepository(database).chunks(document.document_id)
    await VectorRepository(database).record_failures(new, [(chunk.id, "too_long", "It is too long.")])
    with pytest.raises(VerificationError, match="of 1 chunks"):
        await models.activate("new", except_failed=False)
    assert (await models.activate("new")).state == "active"


async def test_removed_documents_do_not_count(database: Database, models: ModelRepository) -> None:
    document = await store(database)
    old, _ = await two(models)
    await embed(database, old, [document])
    await DocumentRepository(database).remove(document.document_id)
    assert (await models.activate("new")).state == "active"


async def test_going_back_undoes_an_activation_and_itself(
    database: Database, models: ModelRepository
) -> None:
    with pytest.raises(NotFound, match="no model to go back to"):
        await models.rollback()
    await two(models)
    await models.activate("new")
    assert (await models.rollback()).name == "old"
    assert await states(models) == {"old": "active", "new": "retired"}
    assert (await models.rollback()).name == "new"


async def test_going_back_takes_the_last_one_even_where_the_clock_stands_still(
    database: Database, models: ModelRepository
) -> None:
    for name in ("first", "second", "third"):
        await models.register(an_identity(name))
    async with database.transaction() as connection:
        for name in ("third", "second", "first"):
            await models.activate(name, connection=connection)
        assert (await models.rollback(connection=connection)).name == "second"
        assert (await models.rollback(connection=connection)).name == "first"


async def test_going_back_is_refused_while_the_model_before_lacks_what_is_found_now(
    database: Database, models: ModelRepository
) -> None:
    old, new = await two(models)
    await models.activate("new")
    later = await store(database)
    await embed(database, new, [later])
    with pytest.raises(VerificationError, match=r"The model old lacks vectors: of 0 chunks .* and of 1 that"):
        await models.rollback(patience=NOT_AT_ALL)
    assert (await models.rollback(even_incomplete=True)).name == "old", "who must, can"
    assert (await models.rollback()).name == "new"
    await embed(database, old, [later])
    assert (await models.rollback(patience=NOT_AT_ALL)).name == "old"


async def test_a_document_that_was_restored_and_nobody_finds_yet_bars_no_way_back(
    database: Database, models: ModelRepository
) -> None:
    restored = await store(database)
    await DocumentRepository(database).remove(restored.document_id)
    await models.use(an_identity("old"))
    await models.register(an_identity("new"))
    await models.activate("new")
    await DocumentRepository(database).restore(restored.document_id)
    assert (await models.rollback(patience=NOT_AT_ALL)).name == "old"
    assert (await models.rollback(patience=NOT_AT_ALL)).name == "new"


@pytest.mark.parametrize(("name", "kind"), [("nobody", NotFound), ("new", InvalidInput)])
async def test_a_model_that_is_not_there_or_failed_does_not_become_active(
    models: ModelRepository, name: str, kind: type[Exception]
) -> None:
    await two(models)
    await models.set_state("new", "failed")
    with pytest.raises(kind):
        await models.activate(name)
    assert await states(models) == {"old": "active", "new": "failed"}


async def test_a_failed_model_is_not_kept_and_all_others_are(models: ModelRepository) -> None:
    await two(models)
    assert [model.name for model in await models.kept()] == ["old", "new"]
    await models.set_state("new", "ready")
    await models.activate("new")
    assert [model.name for model in await models.kept()] == ["old", "new"]
    await models.set_state("old", "failed")
    assert [model.name for model in await models.kept()] == ["new"]
    with pytest.raises(NotFound):
        await models.set_state("new", "ready")


async def test_of_many_activations_at_once_each_leaves_one_active_model(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database)
    first = await models.use(an_identity("first"))
    await embed(database, first, [document])
    for number in range(3):
        await embed(database, await models.register(an_identity(f"model {number}")), [document])

    async def look() -> None:
        while not done.is_set():
            found = [model.name for model in await models.list() if model.state == "active"]
            assert len(found) == 1, found
            assert await models.active() is not None

    done = asyncio.Event()
    looking = asyncio.create_task(look())
    try:
        made = await asyncio.gather(
            *(models.activate(f"model {number % 3}") for number in range(6)),
            *(models.rollback() for _ in range(1)),
            return_exceptions=True,
        )
    finally:
        done.set()
        await looking
    assert [one for one in made if isinstance(one, BaseException) and not isinstance(one, NotFound)] == []
    assert sorted((await states(models)).values()).count("active") == 1


async def test_a_cut_over_gets_its_turn_among_writers_that_never_pause(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database, [f"Text {number}." for number in range(4)])
    old, new = await two(models)
    await embed(database, old, [document])
    await embed(database, new, [document])
    chunks = await DocumentRepository(database).chunks(document.document_id)
    done = asyncio.Event()

    async def write(number: int) -> None:
        vectors = VectorRepository(database)
        chunk = chunks[number]
        vector = NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=a_vector())
        while not done.is_set():
            async with database.transaction() as connection:
                await vectors.write(old, [vector], connection=connection)
                await connection.execute("SELECT pg_sleep(0.1)")

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    try:
        await asyncio.sleep(0.15)
        async with asyncio.timeout(10):
            assert (await models.activate("new")).state == "active"
    finally:
        done.set()
        await asyncio.gather(*writers)


async def test_processes_that_differ_about_an_address_do_not_write_it_in_turns_or_wait(
    database: Database, models: ModelRepository
) -> None:
    other = ModelRepository(database)
    model = await models.use(an_identity("old"), settings={"base_url": "http://one/v1"})
    for _ in range(3):
        found = await other.use(an_identity("old"), settings={"base_url": "http://two/v1"})
        assert found.settings == {"base_url": "http://two/v1"}
    await models.use(an_identity("old"), settings={"base_url": "http://one/v1"})
    for _ in range(3):
        found = await other.use(an_identity("old"), settings={"base_url": "http://two/v1"})
        assert found.settings == {"base_url": "http://one/v1"}, "it said so already"
    document = await store(database)
    [chunk] = await DocumentRepository(database).chunks(document.document_id)
    vector = NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=a_vector())
    async with database.transaction() as connection:
        await VectorRepository(database).write(model, [vector], connection=connection)
        async with asyncio.timeout(5):
            found = await ModelRepository(database).use(model.identity, settings={"base_url": "http://x/v1"})
        assert found.settings == {"base_url": "http://one/v1"}, "not now: a writer holds the row"


async def test_the_state_of_a_model_is_changed_among_writers_that_never_pause(
    database: Database, models: ModelRepository
) -> None:
    await store(database)
    _, new = await two(models)
    done = asyncio.Event()

    async def write(number: int) -> None:
        await asyncio.sleep(0.03 * number)
        while not done.is_set():
            async with database.transaction() as connection:
                await VectorRepository(database).write(new, [], connection=connection)
                await connection.execute("SELECT pg_sleep(0.1)")

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    await asyncio.sleep(0.2)
    try:
        async with asyncio.timeout(10):
            assert (await models.set_state("new", "ready")).state == "ready"
            again = await models.register(new.identity, settings={"model": "raw"})
            assert again.settings == {"model": "raw"}
    finally:
        done.set()
        await asyncio.gather(*writers)


async def test_a_writer_waits_for_a_cut_over_and_nobody_else_does(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database)
    old, new = await two(models)
    await embed(database, old, [document])
    await embed(database, new, [document])
    async with database.transaction() as connection:
        assert (await models.activate("new", connection=connection)).state == "active"
        writing = asyncio.create_task(embed(database, old, [await store(database, ["Later."])]))
        await eventually(lambda: waiting_for_locks(database.url), what="the writer to wait")
        async with asyncio.timeout(5):
            assert [model.name for model in await models.kept()] == ["old", "new"]
            active = await models.active()
            assert active is not None
            assert active.name == "old", "not committed yet"
            await store(database, ["More."], source_uri="more")
    assert await writing == 1
    assert await states(models) == {"old": "retired", "new": "active"}


async def test_a_cut_over_in_a_transaction_that_is_rolled_back_did_not_happen(
    database: Database, models: ModelRepository
) -> None:
    await two(models)
    async with database.transaction() as connection:
        await models.activate("new", connection=connection)
        raise psycopg.Rollback
    assert await states(models) == {"old": "active", "new": "building"}


async def test_a_transaction_with_an_old_snapshot_is_refused(
    database: Database, models: ModelRepository
) -> None:
    await two(models)
    level = psycopg.IsolationLevel.REPEATABLE_READ
    async with database.transaction(isolation=level) as connection:
        with pytest.raises(ConfigError, match="repeatable read"):
            await models.activate("new", connection=connection)


async def test_a_cut_over_that_gets_no_lock_says_so_and_changes_nothing(url: str) -> None:
    settings = DatabaseSettings(migration_timeout_seconds=0.2)
    async with await Database.connect(url, settings=settings) as database:
        models = ModelRepository(database)
        old, _ = await two(models)
        stored = await store(database)
        async with database.transaction() as connection:
            [chunk] = await DocumentRepository(database).chunks(stored.document_id)
            vector = NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=a_vector())
            await VectorRepository(database).write(old, [vector], connection=connection)
            with pytest.raises(Conflict, match=r"The cut-over to new got no lock within 0\.2 s") as caught:
                await models.activate("new")
            assert caught.value.retryable
        assert await states(models) == {"old": "active", "new": "building"}


async def has_gate(database: Database, model: EmbeddingModel) -> Any:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
            "WHERE datname = current_database() AND locktype = 'advisory' AND granted "
            "AND mode = 'ExclusiveLock' AND objid = %s",
            [model.id],
        )
        row = await cursor.fetchone()
    return row and row[0]


async def test_dropping_takes_the_vectors_and_failures_of_a_model_and_leaves_the_others(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database)
    old, new = await two(models)
    await embed(database, old, [document])
    await embed(database, new, [document])
    [chunk] = await DocumentRepository(database).chunks(document.document_id)
    await VectorRepository(database).record_failures(new, [(chunk.id, "odd", "It is odd.")])
    with pytest.raises(InvalidInput, match="The model old is the active one"):
        await models.drop("old")
    assert (await models.drop("new")).id == new.id
    assert await states(models) == {"old": "active"}
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(
                "SELECT (SELECT count(*) FROM docyard.embeddings), "
                "(SELECT count(*) FROM docyard.embedding_failures), to_regclass(%s)"
            ),
            [f"docyard.{new.partition}"],
        )
        assert await cursor.fetchone() == (1, 0, None)
    with pytest.raises(NotFound, match="no embedding model 'new'"):
        await models.drop("new")
    again = await models.register(an_identity("new", 7))
    assert again.id != new.id, "a number is never given twice"


async def test_a_model_may_be_dropped_while_its_vectors_are_written(
    database: Database, models: ModelRepository
) -> None:
    document = await store(database, [f"Text {number}." for number in range(4)])
    old, new = await two(models)
    await embed(database, old, [document])
    chunks = await DocumentRepository(database).chunks(document.document_id)
    written: list[int] = []

    async def write(number: int) -> None:
        vectors, chunk = VectorRepository(database), chunks[number]
        vector = NewVector(chunk_id=chunk.id, content_hash=chunk.content_hash, embedding=a_vector(5))
        while True:
            async with database.transaction() as connection:
                written.append(await vectors.write(new, [vector], connection=connection))

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    await eventually(lambda: len(written) > 20, what="the writers to be at work")
    async with asyncio.timeout(20):
        await models.drop("new")
        ends = await asyncio.gather(*writers, return_exceptions=True)
    assert {type(end) for end in ends} == {ModelMismatch}, "each writer is told, and none waits or breaks"
    assert await states(models) == {"old": "active"}


async def test_a_model_is_used_by_processes_whose_settings_ask_for_another_that_is_registered(
    models: ModelRepository,
) -> None:
    old, new = await two(models)
    assert await models.use(new.identity) == old, "a migration is under way: the database says who is active"
    await models.activate("new")
    active = await models.use(old.identity)
    assert (active.name, active.state) == ("new", "active")
    await models.set_state("old", "failed")
    with pytest.raises(ModelMismatch, match="The stored vectors are of new"):
        await models.use(old.identity)


async def test_settings_are_kept_at_registration_and_brought_up_to_date_by_use(
    models: ModelRepository,
) -> None:
    first = await models.use(an_identity("old"), settings={"model": "raw", "base_url": "http://one/v1"})
    assert first.settings == {"model": "raw", "base_url": "http://one/v1"}
    moved = await models.use(an_identity("old"), settings={"base_url": "http://two/v1"})
    assert moved.settings == {"model": "raw", "base_url": "http://two/v1"}
    again = await models.register(an_identity("old"), settings={"base_url": "http://x/v1", "dimension": None})
    assert again.settings == {"model": "raw", "base_url": "http://two/v1", "dimension": None}
    assert await models.get("old") == again


async def test_models_change_on_postgres_16_as_well(open_folder: Path) -> None:
    with EmbeddedServer.acquire(open_folder / "home", major=16, settings={"fsync": "off"}) as server:
        async with await Database.connect(server.conninfo) as database:
            await database.initialize(migrate_schema=True)
            models, document = ModelRepository(database), await store(database)
            old, new = await two(models)
            for model in (old, new):
                await embed(database, model, [document])
            await models.activate("new")
            await models.rollback()
            search = DocumentSearch(database)
            for _ in range(8):  # as often as makes the server keep a plan
                async with database.transaction() as connection:
                    await search._prepare(
                        connection,
                        {"language": "english", "depth": 300},
                        {"model": new.id, "dimension": 5},
                        new,
                    )
                    cursor = await connection.execute(
                        "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = %s::regclass",
                        ["docyard.embeddings"],
                    )
                    assert await cursor.fetchall() == [("AccessShareLock",)], "a drop waits for the search"
            await models.drop("new")
            assert await states(models) == {"old": "active"}
