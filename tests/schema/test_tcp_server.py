"""A server by URL over TCP, with a password; and the database part on the older Postgres too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.examples import embed, fill, store

from docyard_schema import Database, DocumentRepository, Health, HealthStatus
from docyard_schema.embedded import EmbeddedServer
from docyard_schema.embeddings import build_index
from docyard_schema.migrations import find_drift, load_steps, migrate, rollback, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_document_is_stored_and_found_by_url(
    scratch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", scratch_url)
    async with await Database.connect() as database:
        assert database.backend == "server"
        await database.initialize(migrate_schema=True)
        stored = await store(database, ["Over TCP."], source_uri="tcp://a")
        health = await database.health_check()
        assert (health.status, health.reason) == (HealthStatus.HEALTHY, "")
        assert isinstance(health, Health)
    async with await Database.connect(scratch_url) as database:
        await database.initialize()
        version = await DocumentRepository(database).version(stored.document_id)
        assert version is not None
        assert version.raw == "Over TCP."


async def test_the_database_part_works_on_postgres_16(open_folder: Path) -> None:
    with EmbeddedServer.acquire(open_folder / "home", major=16, settings={"fsync": "off"}) as server:
        assert server.version == 16
        async with await Database.connect(server.conninfo) as database:
            await database.initialize(migrate_schema=True)
            model = await fill(database)
            stored = await store(database, ["New here."], source_uri="new")
            assert await embed(database, model, [stored]) == 1
            await build_index(database, model)
            async with database.dedicated() as connection:
                assert connection.info.server_version // 10000 == 16
                assert await find_drift(connection, database.namespace, to=len(load_steps())) == []
                before = await snapshot(connection, "docyard")
                await rollback(connection, database.namespace, to=0, destroy=True)
                assert await snapshot(connection, "docyard") == {}
                await migrate(connection, database.namespace)
                assert await snapshot(connection, "docyard") == before


async def test_without_a_url_the_embedded_database_is_there_and_migrates_itself(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_HOME", str(open_folder / "home"))
    async with await Database.connect() as database:
        assert database.backend == "embedded"
        assert str(open_folder / "home") in database.describe()
        await database.initialize()
        await store(database)
    assert database.backend == "embedded"
    assert not (open_folder / "home" / "postgres" / "postmaster.pid").exists()
    await database.close()
