"""Drift: what a database has that its steps did not make, or lacks that they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.examples import fill

from docyard_schema import Database, DatabaseSettings, MigrationError
from docyard_schema.migrations import find_drift, load_steps, migration_status, rollback

if TYPE_CHECKING:
    from collections.abc import Callable

LAST = len(load_steps())


async def drift(database: Database) -> list[str]:
    async with database.dedicated() as connection:
        status = await migration_status(connection, database.namespace)
        return await find_drift(connection, database.namespace, to=status.version)


async def test_a_full_database_with_partitions_and_an_index_of_vectors_has_none(database: Database) -> None:
    from docyard_schema.embeddings import build_index

    await build_index(database, await fill(database))
    assert await drift(database) == []


async def test_a_database_at_an_older_step_is_compared_with_that_step(database: Database) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=4)
    assert await drift(database) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DROP INDEX docyard.chunks_order_idx", "missing: index chunks_order_idx"),
        ("ALTER TABLE docyard.documents ADD COLUMN mine text", "not ours: column documents.mine"),
        ("ALTER TABLE docyard.documents DROP COLUMN tags CASCADE", "missing: column documents.tags"),
        ("ALTER TABLE docyard.chunks ALTER COLUMN text DROP NOT NULL", "changed: column chunks.text"),
        (
            "ALTER TABLE docyard.documents ALTER COLUMN visibility SET DEFAULT 'public'",
            "changed: column documents",
        ),
        (
            "ALTER TABLE docyard.chunks DROP CONSTRAINT chunks_ordinal_check",
            "missing: constraint chunks.chunks_",
        ),
        ("CREATE TABLE docyard.mine ()", "not ours: table mine"),
        ("CREATE INDEX mine ON docyard.chunks (language)", "not ours: index mine"),
        (
            "DROP TRIGGER notify_jobs_inserted ON docyard.procrastinate_jobs",
            "missing: trigger procrastinate_jobs",
        ),
        (
            "ALTER TABLE docyard.procrastinate_jobs DISABLE TRIGGER notify_jobs_inserted",
            "changed: trigger procrastinate_jobs.notify_jobs_inserted",
        ),
        (
            (
                "CREATE OR REPLACE FUNCTION docyard.join_text(parts text[], separator text) RETURNS text "
                "LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 'x'"
            ),
            "changed: function docyard.join_text(text[],text)",
        ),
        (
            "ALTER TYPE docyard.procrastinate_job_status ADD VALUE 'mine'",
            "changed: type procrastinate_job_status",
        ),
        (
            "CREATE OR REPLACE VIEW docyard.dead_letters AS SELECT * FROM docyard.dead_letters_ LIMIT 1",
            "changed: view",
        ),
        ("ALTER TABLE docyard.chunks SET UNLOGGED", "changed: table chunks"),
    ],
    ids=lambda value: value[:50] if " " in value else value,
)
async def test_a_change_by_hand_is_found(
    database: Database, url: str, run: Callable[[str, str], None], change: str, found: str
) -> None:
    if "dead_letters_" in change:
        columns = "id AS job_id, task_name AS kind, queue_name AS queue, attempts, finished_at, error_code, "
        change = (
            f"CREATE OR REPLACE VIEW docyard.dead_letters AS SELECT {columns} error_message "
            "FROM docyard.procrastinate_jobs"
        )
    if "UNLOGGED" in change:
        run(url, "DROP TABLE docyard.embeddings, docyard.embedding_failures CASCADE")
    run(url, change)
    assert any(line.startswith(found) for line in await drift(database)), await drift(database)


async def test_looking_for_drift_leaves_nothing_behind(database: Database) -> None:
    async def schemas() -> list[tuple[str]]:
        async with database.connection() as connection:
            return await (await connection.execute("SELECT nspname FROM pg_namespace ORDER BY 1")).fetchall()

    before = await schemas()
    await drift(database)
    assert await schemas() == before


@pytest.mark.parametrize("schema", ["job", "order", "public"])
async def test_the_schemas_name_may_be_that_of_something_else(empty_url: str, schema: str) -> None:
    # A view calls its table "job"; the text of functions says it too.
    settings = DatabaseSettings(database_schema=schema)
    async with await Database.connect(empty_url, settings=settings) as database:
        await database.initialize(migrate_schema=True)
        assert await drift(database) == []


async def test_pgvector_in_docyards_own_schema_is_no_drift(
    empty_url: str, run: Callable[[str, str], None]
) -> None:
    run(empty_url, "CREATE SCHEMA other; CREATE EXTENSION vector SCHEMA other")
    settings = DatabaseSettings(database_schema="other")
    async with await Database.connect(empty_url, settings=settings) as database:
        await database.initialize(migrate_schema=True)
        assert database.namespace.vectors == "other"
        assert await drift(database) == []


async def test_a_user_who_may_not_compare_is_told_so(
    make_role: Callable[..., str],
    url: str,
    as_role: Callable[[str, str], str],
    run: Callable[[str, str], None],
) -> None:
    role = make_role()
    run(
        url,
        f"GRANT USAGE ON SCHEMA docyard TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA docyard TO {role}",
    )
    async with await Database.connect(as_role(url, role)) as database:
        with pytest.raises(MigrationError, match="may not make a schema to compare with") as caught:
            await drift(database)
    assert "GRANT CREATE ON DATABASE" in caught.value.hint
