"""``docyard models``: a person changes which model searches use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.examples import an_identity, embed, store

from docyard_schema import Database, ModelRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from cli.conftest import Docyard
    from support.embedding_server import EmbeddingServer


def on(url: str, work: Callable[[Database], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with await Database.connect(url) as database:
            return await work(database)

    return asyncio.run(run())


async def two_models(database: Database) -> None:
    """One document, an active model with its vector, and a new one without."""
    models, document = ModelRepository(database), await store(database)
    await embed(database, await models.use(an_identity("old")), [document])
    await models.register(an_identity("new", 5))


async def fill_new(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.embeddings (model_id, chunk_id, embedding, content_hash) "
                "SELECT model.id, chunk.id, '[1,2,3,4,5]', chunk.content_hash "
                "FROM docyard.chunks AS chunk, docyard.embedding_models AS model WHERE model.name = 'new'"
            )
        )


def test_without_models_there_is_a_note(docyard: Docyard, on_server: str) -> None:
    ended = docyard("models", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "No models yet" in ended.err
    assert docyard("models", "list", "--json").json == []


def test_models_are_listed_with_what_they_cover(docyard: Docyard, on_server: str) -> None:
    on(on_server, two_models)
    old, new = docyard("models", "list", "--json").json
    assert (old["model"], old["state"], old["embedded"], old["missing"]) == ("old", "active", 1, 0)
    assert (new["model"], new["dimension"], new["state"], new["missing"]) == ("new", 5, "building", 1)
    assert new["index"] == {"vectors": 0, "valid": None, "phase": None, "done": 0.0}
    assert (new["backfill_to"], new["settings"]) == (1, {})
    ended = docyard("models", "list")
    assert ended.out.splitlines()[0].split()[:4] == ["model", "provider", "dimensions", "state"]
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["old", "new"]


def test_a_model_is_activated_when_complete_and_taken_back(docyard: Docyard, on_server: str) -> None:
    on(on_server, two_models)
    refused = docyard("models", "activate", "new")
    assert refused.code == 1
    assert "lacks vectors: of 1 chunks" in refused.err
    assert "docyard migrate reembed --model new" in refused.err
    assert docyard("models", "activate", "new", "--even-incomplete").code == 0
    assert docyard("models", "rollback", "--even-incomplete").code == 0
    on(on_server, fill_new)
    ended = docyard("models", "activate", "new")
    assert (ended.code, ended.out) == (0, "new is active. Go back with: docyard models rollback\n")
    assert docyard("models", "activate", "new", "--strict", "--json").json["state"] == "active"
    back = docyard("models", "rollback", "--json")
    assert (back.code, back.json["name"], back.json["state"]) == (0, "old", "active")
    assert docyard("models", "rollback").out == "new is active again.\n"


def test_a_model_without_an_index_that_becomes_active_gets_one(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(on_server, two_models)
    on(on_server, fill_new)
    monkeypatch.setattr("docyard_schema.embeddings.vector_index.ROWS_WORTH_AN_INDEX", 0)
    ended = docyard("models", "activate", "new")
    assert (ended.code, "until a worker has built their index" in ended.err) == (0, True)
    [job] = docyard("jobs", "list", "--json").json
    assert (job["kind"], job["queue"]) == ("build_vector_index", "maintain")


def test_nothing_to_go_back_to_and_unknown_names_fail(docyard: Docyard, on_server: str) -> None:
    for arguments in (["rollback"], ["activate", "nobody"], ["drop", "nobody"]):
        ended = docyard("models", *arguments)
        assert ended.code == 1, arguments
        assert "docyard models list" in ended.err


def test_a_model_is_dropped_but_not_the_active_one(docyard: Docyard, on_server: str) -> None:
    on(on_server, two_models)
    refused = docyard("models", "drop", "old")
    assert (refused.code, "The model old is the active one" in refused.err) == (2, True)
    ended = docyard("models", "drop", "new", "--yes")
    assert (ended.code, ended.out) == (0, "new is gone, and its vectors with it.\n")
    assert [model["model"] for model in docyard("models", "list", "--json").json] == ["old"]


def test_a_drop_asks_whoever_sits_there(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(on_server, two_models)
    monkeypatch.setattr("docyard.cli.models.on_terminal", lambda: True)
    monkeypatch.setattr("docyard.cli.models.asked", lambda question: False)
    ended = docyard("models", "drop", "new")
    assert (ended.code, "Nothing was changed." in ended.err) == (1, True)
    assert docyard("models", "drop", "new", "--yes", "--json").json == {"model": "new", "dropped": True}


def test_a_model_is_registered_as_its_provider_describes_it(
    docyard: Docyard, on_server: str, embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding_server.dimension, embedding_server.key = 3072, "sk-local"
    monkeypatch.setenv("DOCYARD_EMBEDDING_API_KEYS", "127.0.0.1=sk-local")
    made = docyard("models", "register", "large", "--base-url", embedding_server.url, "--json")
    assert (made.code, made.json["dimension"], made.json["state"]) == (0, 3072, "building"), made.err
    assert made.json["settings"] == {"model": "large", "dimension": None, "base_url": embedding_server.url}
    assert "sk-local" not in made.out
    again = docyard("models", "register", "large", "--base-url", embedding_server.url)
    assert again.code == 0
    assert again.out.startswith("large (openai, 3072 dimensions, hash ")
    embedding_server.dimension = 8
    other = docyard("models", "register", "large", "--base-url", embedding_server.url)
    assert other.code == 1
    assert "stored is large (openai, 3072 dimensions" in other.err
    assert "asked for is large (openai, 8 dimensions" in other.err
    assert docyard("models", "register", "wordllama-64").code == 0
    wrong = docyard("models", "register", "text-embedding-3-small")
    assert (wrong.code, "expected a key for api.openai.com" in wrong.err) == (2, True), wrong.err


def test_index_settings_that_contradict_each_other_are_wrong_use(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_VECTOR_INDEX_M", "40")
    ended = docyard("models", "register", "wordllama-64")
    assert ended.code == 2
    assert "got m = 40 and ef_construction = 64" in ended.err


def test_keys_that_cannot_be_read_are_wrong_use_and_not_repeated(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_EMBEDDING_API_KEYS", "sk-secret")
    ended = docyard("models", "register", "wordllama-64")
    assert ended.code == 2
    assert "HOST=KEY" in ended.err
    assert "sk-secret" not in ended.err
