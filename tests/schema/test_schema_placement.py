"""All lives inside one schema: of any name, under any search path, for an owner without special rights."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.examples import fill, store

from docyard_schema import (
    Database,
    DatabaseSettings,
    DocumentRepository,
    MigrationError,
    ModelRepository,
    SchemaMismatch,
)
from docyard_schema.embeddings import VectorRepository, build_index
from docyard_schema.migrations import migrate, rollback

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[str, str], None]
    AsRole = Callable[[str, str], str]


def reading(role: str) -> str:
    return f"GRANT USAGE ON SCHEMA docyard TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA docyard TO {role}"


async def use_all_of_it(database: Database) -> None:
    """Write and read what the ground floor can."""
    model = await fill(database)
    documents = DocumentRepository(database)
    found = await documents.list()
    assert [document.source_uri for document in found] == ["c", "b", "a"]
    assert len(await documents.versions(found[2].id)) == 2
    assert await documents.count_by_kind() == {"file": 3}
    await store(database, ["One about bees."], source_uri="d")
    assert (
        await VectorRepository(database).reuse(model, [document.id for document in await documents.list()])
        == 1
    )
    await documents.remove(found[0].id)
    await build_index(database, model)
    assert (await ModelRepository(database).active()) == model
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql("SELECT count(*) FROM docyard.jobs"))
        assert await cursor.fetchone() == (4,)


@pytest.mark.parametrize("schema", ["other", "order", "a1_b"])
async def test_a_schema_of_another_name_works(empty_url: str, schema: str) -> None:
    settings = DatabaseSettings(database_schema=schema)
    async with await Database.connect(empty_url, settings=settings) as database:
        await database.initialize(migrate_schema=True)
        await use_all_of_it(database)
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('docyard')"
            )
            assert await cursor.fetchone() == (0,)
        async with database.dedicated() as connection:
            await rollback(connection, database.namespace, to=0, destroy=True)
            await migrate(connection, database.namespace)


async def test_the_schemas_name_comes_from_the_environment(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_SCHEMA", "other")
    async with await Database.connect(empty_url) as database:
        assert database.namespace.schema == "other"


async def test_two_schemas_share_one_database_and_know_nothing_of_each_other(url: str) -> None:
    async with (
        await Database.connect(url) as first,
        await Database.connect(url, settings=DatabaseSettings(database_schema="other")) as second,
    ):
        await first.initialize()
        await second.initialize(migrate_schema=True)
        await use_all_of_it(first)
        assert await DocumentRepository(second).list() == []
        await use_all_of_it(second)
        async with second.dedicated() as connection:
            await rollback(connection, second.namespace, to=0, destroy=True)
        await first.initialize()
        assert len(await DocumentRepository(first).list()) == 3


async def test_an_applications_own_tables_and_ours_commit_or_roll_back_together(url: str, run: Run) -> None:
    run(url, "CREATE TABLE public.orders (id uuid PRIMARY KEY, document uuid REFERENCES docyard.documents)")
    async with await Database.connect(url) as database:
        await database.initialize()
        for outcome in ("rolled back", "committed"):
            async with await psycopg.AsyncConnection.connect(url) as application:
                await application.execute("INSERT INTO public.orders (id) VALUES (%s)", [uuid.uuid4()])
                stored = await store(database, connection=application)
                await application.execute("UPDATE public.orders SET document = %s", [stored.document_id])
                if outcome == "rolled back":
                    await application.rollback()
            async with database.connection() as connection:
                cursor = await connection.execute("SELECT count(document) FROM public.orders")
                orders = await cursor.fetchone()
            kept = len(await DocumentRepository(database).list())
            assert (orders, kept) == (((0,), 0) if outcome == "rolled back" else ((1,), 1))


@pytest.mark.parametrize("search_path", ["''", "pg_catalog", "nowhere", "mine, pg_catalog"])
async def test_a_hostile_search_path_does_no_harm(
    make_role: Callable[..., str], empty_url: str, as_role: AsRole, run: Run, search_path: str
) -> None:
    role = make_role("SUPERUSER")
    run(empty_url, f"ALTER ROLE {role} SET search_path = {search_path}")
    # What an unqualified name would meet first.
    run(empty_url, "CREATE SCHEMA mine; CREATE TABLE mine.documents (); CREATE TABLE mine.chunks ()")
    run(empty_url, "CREATE TABLE public.documents (); CREATE TABLE public.procrastinate_jobs ()")
    run(empty_url, "CREATE FUNCTION mine.clock() RETURNS text RETURN 'a trap'")
    async with await Database.connect(as_role(empty_url, role)) as database:
        async with database.connection() as connection:
            cursor = await connection.execute("SHOW search_path")
            [path] = await cursor.fetchone() or ("",)
            assert "public" not in path
        await database.initialize(migrate_schema=True)
        await use_all_of_it(database)


async def test_pgvector_may_have_a_schema_of_its_own(empty_url: str, run: Run) -> None:
    run(empty_url, "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    async with await Database.connect(empty_url) as database:
        await database.initialize(migrate_schema=True)
        assert database.namespace.vectors == "extensions"
        await use_all_of_it(database)


async def test_an_owner_without_special_rights_does_all_of_it(
    make_role: Callable[..., str], empty_url: str, as_role: AsRole, run: Run
) -> None:
    role = make_role("NOSUPERUSER NOCREATEDB NOCREATEROLE")
    run(empty_url, f"ALTER DATABASE {conninfo_to_dict(empty_url)['dbname']} OWNER TO {role}")
    run(empty_url, "CREATE EXTENSION vector")
    async with await Database.connect(as_role(empty_url, role)) as database:
        await database.initialize(migrate_schema=True)
        await use_all_of_it(database)
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'docyard'"
            )
            assert await cursor.fetchone() == (role,)


async def test_a_user_who_may_not_create_a_schema_is_told_who_can_let_them(
    make_role: Callable[..., str], empty_url: str, as_role: AsRole, run: Run
) -> None:
    role = make_role()
    run(empty_url, "CREATE EXTENSION vector")
    async with await Database.connect(as_role(empty_url, role)) as database:
        with pytest.raises(
            MigrationError, match=f'user "{role}" may not make the schema "docyard"'
        ) as caught:
            await database.initialize(migrate_schema=True)
        name = conninfo_to_dict(empty_url)["dbname"]
        assert f"Let the database's owner run: psql -d '{name}'" in caught.value.hint
        command = caught.value.hint.split("-c '")[1].split("'")[0]
        run(empty_url, command)
        await database.initialize(migrate_schema=True)


async def test_a_user_who_may_not_change_the_schema_is_told_so(
    make_role: Callable[..., str], url: str, as_role: AsRole, run: Run
) -> None:
    role = make_role()
    async with await Database.connect(url) as database, database.dedicated() as connection:
        await rollback(connection, database.namespace, to=6)
    run(url, reading(role))
    async with await Database.connect(as_role(url, role)) as database:
        with pytest.raises(MigrationError, match="0007_views") as caught:
            await database.initialize(migrate_schema=True)
        assert f'ALTER SCHEMA "docyard" OWNER TO "{role}"' in caught.value.hint


async def test_a_user_who_may_not_read_the_schema_is_told_so(
    make_role: Callable[..., str], url: str, as_role: AsRole, run: Run
) -> None:
    role = make_role()
    async with await Database.connect(as_role(url, role)) as database:
        with pytest.raises(
            SchemaMismatch, match=f'user "{role}" may not read the schema "docyard"'
        ) as caught:
            await database.initialize()
        assert f'GRANT USAGE ON SCHEMA "docyard" TO "{role}"' in caught.value.hint
        run(url, reading(role))
        await database.initialize()
        assert await DocumentRepository(database).list() == []
