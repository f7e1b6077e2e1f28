"""Who begins a transaction ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from support.examples import a_document, store

from docyard_schema import ConfigError, Conflict, DocumentRepository

if TYPE_CHECKING:
    from docyard_schema import Database


async def kept(database: Database) -> list[str | None]:
    return sorted(document.source_uri or "" for document in await DocumentRepository(database).list())


async def test_a_transaction_commits_at_its_end(database: Database) -> None:
    async with database.transaction() as connection:
        await store(database, source_uri="a", connection=connection)
        await store(database, source_uri="b", connection=connection)
        assert await kept(database) == []
    assert await kept(database) == ["a", "b"]


async def test_an_error_rolls_all_of_it_back(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await store(database, source_uri="a", connection=connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await kept(database) == []


async def test_a_joined_step_that_fails_takes_only_itself_back(database: Database) -> None:
    async with database.transaction() as connection:
        first = await store(database, source_uri="a", connection=connection)
        with pytest.raises(Conflict):
            await DocumentRepository(database).store(
                a_document(source_uri="b"), replaces=first.version, connection=connection
            )
        await store(database, source_uri="c", connection=connection)
    assert await kept(database) == ["a", "c"]


@pytest.mark.parametrize("first", ["nothing", "a statement"])
async def test_what_joins_a_callers_transaction_never_commits_it(database: Database, first: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.url) as caller:
        if first == "a statement":
            await caller.execute("SELECT 1")
        await store(database, source_uri="a", connection=caller)
        await DocumentRepository(database).list(connection=caller)
        assert await kept(database) == []
        await caller.rollback()
        assert await kept(database) == []
        await store(database, source_uri="b", connection=caller)
    assert await kept(database) == ["b"]


async def test_a_caller_in_autocommit_keeps_what_was_stored(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as caller:
        await store(database, source_uri="a", connection=caller)
        assert await kept(database) == ["a"]


async def test_a_callers_rows_may_be_dictionaries_and_stay_so(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, row_factory=dict_row) as caller:
        stored = await store(database, ["One.", "Two."], connection=caller)
        again = await store(database, ["One.", "Three."], connection=caller)
        assert (again.added, again.removed, again.kept) == (1, 1, 1)
        documents = DocumentRepository(database)
        assert await documents.current("default", "file:///a.txt", connection=caller) is not None
        assert await documents.count_by_kind(connection=caller) == {"file": 1}
        cursor = await caller.execute("SELECT 1 AS one")
        assert await cursor.fetchone() == {"one": 1}
        assert stored.document_id == again.document_id


@pytest.mark.parametrize("level", list(IsolationLevel))
async def test_the_isolation_level_is_that_which_was_asked_for(
    database: Database, level: IsolationLevel
) -> None:
    async with database.transaction(isolation=level) as connection:
        cursor = await connection.execute("SHOW transaction_isolation")
        assert await cursor.fetchone() == (level.name.replace("_", " ").lower(),)
    async with database.transaction() as connection:
        cursor = await connection.execute("SHOW transaction_isolation")
        assert await cursor.fetchone() == ("read committed",)


async def test_a_joined_transaction_keeps_its_isolation_level(database: Database) -> None:
    async with database.transaction() as connection:
        with pytest.raises(ConfigError, match="keeps the isolation level"):
            async with database.transaction(connection, isolation=IsolationLevel.SERIALIZABLE):
                pass
