"""Steps are applied once, taken back without a trace, and never half."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.examples import fill

from docyard_schema import Database, DatabaseSettings, MigrationError, Namespace, SchemaMismatch
from docyard_schema.migrations import (
    find_drift,
    load_steps,
    migrate,
    migration_status,
    rollback,
    snapshot,
)
from docyard_schema.migrations.steps_on_disk import BASE

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

LAST = len(load_steps())


async def schema_of(database: Database) -> dict[str, str]:
    async with database.dedicated() as connection:
        return await snapshot(connection, database.namespace.schema)


async def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Everything in every table of the schema."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [database.namespace.schema]
        )
        found = {}
        for (table,) in await cursor.fetchall():
            listed = await connection.execute(
                database.sql(f'SELECT * FROM docyard."{table}" AS row ORDER BY row::text')
            )
            found[table] = await listed.fetchall()
        return found


async def test_up_down_up_leaves_the_same_schema_at_every_step(database: Database) -> None:
    async with database.dedicated() as connection:
        schema = database.namespace.schema
        going_down = {LAST: await snapshot(connection, schema)}
        for number in range(LAST - 1, -1, -1):
            [step] = await rollback(connection, database.namespace, to=number)
            assert step.number == number + 1
            going_down[number] = await snapshot(connection, schema)
        assert going_down[0] == {}
        for number in range(1, LAST + 1):
            [step] = await migrate(connection, database.namespace, to=number)
            assert step.number == number
            assert await snapshot(connection, schema) == going_down[number], step.filename
        assert len({str(found) for found in going_down.values()}) == LAST + 1, "a step that does nothing"


async def test_the_snapshot_tells_every_kind_of_object(database: Database) -> None:
    kinds = {name.split(" ")[0] for name in await schema_of(database)}
    assert kinds >= {
        "column",
        "constraint",
        "index",
        "trigger",
        "view",
        "function",
        "type",
        "table",
        "sequence",
    }


@pytest.mark.parametrize("number", range(LAST, BASE, -1))
async def test_a_step_above_the_base_goes_down_and_up_on_a_full_database_without_loss(
    database: Database, number: int
) -> None:
    await fill(database)
    schema, rows = await schema_of(database), await rows_of(database)
    assert len(rows["chunks"]) == 4
    assert len(rows["embeddings_1"]) == 3
    assert len(rows["procrastinate_jobs"]) == 4
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=number - 1)
        assert await snapshot(connection, database.namespace.schema) != schema
        await migrate(connection, database.namespace)
    assert await schema_of(database) == schema
    after = await rows_of(database)
    assert {name: found for name, found in after.items() if name != "schema_migrations"} == {
        name: found for name, found in rows.items() if name != "schema_migrations"
    }


@pytest.mark.parametrize("to", range(BASE))
async def test_a_base_step_refuses_to_go_while_its_tables_have_rows_and_changes_nothing(
    database: Database, to: int
) -> None:
    await fill(database)
    schema, rows = await schema_of(database), await rows_of(database)
    async with database.dedicated() as connection:
        with pytest.raises(MigrationError, match="would lose the rows of") as caught:
            await rollback(connection, database.namespace, to=to)
    assert "embeddings" in caught.value.details["tables"]
    assert "schema_migrations" not in caught.value.details["tables"]
    assert ("documents" in caught.value.details["tables"]) is (to < 4)
    assert "--destroy" in caught.value.hint
    assert (await schema_of(database), await rows_of(database)) == (schema, rows)


async def test_a_base_step_goes_when_only_other_steps_have_rows(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            database.sql(
                "INSERT INTO docyard.documents (id, kind, collection) VALUES (gen_random_uuid(), 'file', 'a')"
            )
        )
    async with database.dedicated() as connection:
        assert [step.number for step in await rollback(connection, database.namespace, to=4)] == list(
            range(LAST, 4, -1)
        )
        with pytest.raises(MigrationError, match="rows of: documents"):
            await rollback(connection, database.namespace, to=3)


async def test_destroy_takes_everything_and_says_what(database: Database) -> None:
    await fill(database)
    async with database.dedicated() as connection:
        gone = await rollback(connection, database.namespace, to=0, destroy=True)
        assert [step.number for step in gone] == list(range(LAST, 0, -1))
        assert await snapshot(connection, database.namespace.schema) == {}
        await migrate(connection, database.namespace)
    assert (await rows_of(database))["documents"] == []


async def test_migrating_twice_does_nothing(database: Database) -> None:
    before = (await rows_of(database))["schema_migrations"]
    async with database.dedicated() as connection:
        assert await migrate(connection, database.namespace) == []
    await database.initialize(migrate_schema=True)
    assert (await rows_of(database))["schema_migrations"] == before
    assert len(before) == LAST


async def test_many_migrate_at_once_and_one_works(empty_url: str) -> None:
    async def one() -> list[int]:
        async with await Database.connect(empty_url) as database:
            await database.initialize(migrate_schema=True)
            async with database.dedicated() as connection:
                await connection.execute("SELECT 1")
            status = await status_of(database)
            return [step.number for step in status.applied]

    found = await asyncio.gather(*(one() for _ in range(4)))
    assert found == [list(range(1, LAST + 1))] * 4


async def status_of(database: Database):  # type: ignore[no-untyped-def]
    async with database.connection() as connection:
        return await migration_status(connection, database.namespace)


async def test_what_is_pending_can_be_asked_without_changing_anything(empty_url: str) -> None:
    async with await Database.connect(empty_url) as database:
        status = await status_of(database)
        assert (status.version, status.applied) == (0, ())
        assert [step.filename for step in status.pending][:2] == [
            "0001_foundation.up.sql",
            "0002_procrastinate.up.sql",
        ]
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT to_regnamespace('docyard'), to_regtype('public.vector')"
            )
            assert await cursor.fetchone() == (None, None)


async def test_an_edited_step_is_refused_with_the_name_of_its_file(
    database: Database, url: str, run: Callable[[str, str], None]
) -> None:
    run(url, "UPDATE docyard.schema_migrations SET sha256 = repeat('0', 64) WHERE number = 4")
    for attempt in (database.initialize(), database.initialize(migrate_schema=True)):
        with pytest.raises(MigrationError, match=r"0004_documents\.up\.sql was edited") as caught:
            await attempt
        assert "write the change as a new step" in caught.value.hint
        assert caught.value.code == "migration"


async def test_a_schema_newer_than_the_code_is_refused(
    database: Database, url: str, run: Callable[[str, str], None]
) -> None:
    run(url, "INSERT INTO docyard.schema_migrations (number, name, sha256) VALUES (9000, 'later', 'x')")
    for attempt in (database.initialize(), database.initialize(migrate_schema=True)):
        with pytest.raises(
            SchemaMismatch, match=f"step 9000_later; this docyard knows {LAST} steps"
        ) as caught:
            await attempt
        assert "Upgrade docyard" in caught.value.hint
        assert f"docyard db rollback --to {LAST}" in caught.value.hint


async def test_a_schema_older_than_the_code_names_the_command(database: Database) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=LAST - 1)
    with pytest.raises(SchemaMismatch, match=f"is at step {LAST - 1} of {LAST}") as caught:
        await database.initialize()
    assert "docyard db migrate" in caught.value.hint
    assert caught.value.code == "schema_mismatch"


async def test_no_schema_at_all_names_the_command(empty_url: str) -> None:
    async with await Database.connect(empty_url) as database:
        with pytest.raises(SchemaMismatch, match="is not there yet") as caught:
            await database.initialize()
    assert "docyard db migrate" in caught.value.hint


async def test_auto_migrate_brings_a_server_up_to_date(empty_url: str) -> None:
    settings = DatabaseSettings(auto_migrate=True)
    async with await Database.connect(empty_url, settings=settings) as database:
        await database.initialize()
        assert (await status_of(database)).pending == ()


@pytest.mark.parametrize("to", [-1, LAST + 1])
async def test_a_step_that_does_not_exist_is_refused(database: Database, to: int) -> None:
    async with database.dedicated() as connection:
        for verb in (migrate, rollback):
            with pytest.raises(MigrationError, match=f"no schema step {to}: expected 0 to {LAST}"):
                await verb(connection, database.namespace, to=to)


async def test_a_step_that_fails_leaves_nothing_and_names_its_file(
    empty_url: str, run: Callable[[str, str], None]
) -> None:
    async with await Database.connect(empty_url) as database:
        async with database.dedicated() as connection:
            await connection.execute("CREATE EXTENSION vector")
            await migrate(connection, database.namespace, to=3)
            before = await snapshot(connection, "docyard")
            # The third table of step 4 is in the way.
            await connection.execute("CREATE TABLE docyard.chunks ()")
            with pytest.raises(
                MigrationError, match=r"0004_documents\.up\.sql failed and was rolled back: rel"
            ):
                await migrate(connection, database.namespace)
            await connection.execute("DROP TABLE docyard.chunks")
            assert await snapshot(connection, "docyard") == before
            assert len(await migrate(connection, database.namespace)) == LAST - 3
        assert await schema_of(database)


async def test_what_stands_on_a_step_is_named_when_it_cannot_go(
    database: Database, url: str, run: Callable[[str, str], None]
) -> None:
    run(url, "CREATE VIEW public.mine AS SELECT id FROM docyard.jobs")
    async with database.dedicated() as connection:
        with pytest.raises(MigrationError, match=r"0007_views\.down\.sql failed") as caught:
            await rollback(connection, database.namespace, to=6)
    assert "view public.mine depends on view jobs" in caught.value.hint


async def test_migrating_leaves_the_sessions_settings_as_they_were(database: Database) -> None:
    names = ("statement_timeout", "lock_timeout", "search_path", "idle_in_transaction_session_timeout")
    async with database.dedicated() as connection:
        await connection.execute("SET search_path = pg_catalog")
        before = [await setting(connection, name) for name in names]
        assert before[0] == "1min"
        await rollback(connection, database.namespace, to=5)
        await migrate(connection, database.namespace)
        # A session's own SET of these is lost, its start-up options are not.
        assert [await setting(connection, name) for name in names] == before


async def setting(connection: psycopg.AsyncConnection[object], name: str) -> object:
    cursor = await connection.execute("SELECT current_setting(%s)", [name])
    row = await cursor.fetchone()
    return row[0] if row else None  # type: ignore[index]


async def test_a_migrated_schema_has_no_drift(database: Database) -> None:
    async with database.dedicated() as connection:
        assert await find_drift(connection, Namespace(vectors=database.namespace.vectors), to=LAST) == []
