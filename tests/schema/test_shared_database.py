"""One database per process, loop and URL."""

from __future__ import annotations

import asyncio
import multiprocessing

import pytest

from docyard_schema import DocumentRepository, SchemaMismatch, shared_database
from docyard_schema import shared as shared_module


async def test_all_who_ask_at_once_get_the_same(url: str) -> None:
    found = await asyncio.gather(*(shared_database(url) for _ in range(5)))
    assert len({id(database) for database in found}) == 1
    assert await DocumentRepository(found[0]).list() == []
    await found[0].close()


async def test_the_environment_names_the_same_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", url)
    database = await shared_database()
    assert await shared_database(url) is database
    await database.close()


async def test_after_closing_the_next_call_opens_a_new_one(url: str) -> None:
    first = await shared_database(url)
    await first.close()
    second = await shared_database(url)
    assert second is not first
    assert await DocumentRepository(second).list() == []
    await second.close()


async def test_a_failure_is_not_kept(empty_url: str) -> None:
    for _ in range(2):
        with pytest.raises(SchemaMismatch):
            await shared_database(empty_url)
    database = await shared_module.Database.connect(empty_url)
    async with database:
        await database.initialize(migrate_schema=True)
    shared = await shared_database(empty_url)
    await shared.close()


def test_another_loop_gets_another_and_closed_loops_are_forgotten(url: str) -> None:
    async def use() -> int:
        database = await shared_database(url)
        assert await shared_database(url) is database
        await database.close()
        return id(database.pool)

    for _ in range(3):
        asyncio.run(use())
    asyncio.run(use())
    assert sum(1 for _, loop, _ in shared_module._places if loop.is_closed()) <= 1


def _in_a_child(url: str) -> int:
    async def use() -> int:
        async with await shared_database(url) as database:
            return len(await DocumentRepository(database).list())

    return asyncio.run(use())


def test_another_process_opens_its_own(url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_in_a_child, (url,)) == 0
