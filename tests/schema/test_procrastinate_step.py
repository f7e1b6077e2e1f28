"""procrastinate's own schema is a step of ours, word for word, and works inside our schema."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import procrastinate
from procrastinate import PsycopgConnector
from psycopg.conninfo import make_conninfo

from docyard_schema.migrations import load_steps, migrate, rollback

if TYPE_CHECKING:
    from docyard_schema import Database


def body(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_step_is_the_installed_packages_schema_word_for_word() -> None:
    theirs = body(files("procrastinate.sql").joinpath("schema.sql").read_text())
    ours = body(load_steps()[1].up)
    start = ours.index(theirs[0])
    assert ours[start : start + len(theirs)] == theirs
    assert all(line.startswith("--") for line in ours[:start])


async def test_a_vanilla_producer_defers_into_it(database: Database) -> None:
    connector = PsycopgConnector(
        conninfo=make_conninfo(database.url, options="-c search_path=public,docyard")
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="ingest", queue="ingest")
    def ingest(source: str) -> None: ...

    async with app.open_async():
        job_id = await ingest.defer_async(source="a.txt")
        ids = await ingest.batch_defer_async({"source": "b.txt"}, {"source": "c.txt"})
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql("SELECT id, kind, queue, state FROM docyard.jobs ORDER BY id")
        )
        assert await cursor.fetchall() == [(id, "ingest", "ingest", "available") for id in [job_id, *ids]]


async def test_its_functions_find_their_tables_under_any_search_path(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("SET search_path = ''")
        cursor = await connection.execute(
            database.sql(
                "SELECT docyard.procrastinate_defer_jobs_v1(ARRAY[('q', 't', 0, NULL, NULL, '{}', NULL)]"
                "::docyard.procrastinate_job_to_defer_v1[])"
            )
        )
        [ids] = await cursor.fetchone() or ([],)
        cursor = await connection.execute(
            database.sql("SELECT docyard.procrastinate_cancel_job_v1(%s, false, false)"), [ids[0]]
        )
        assert await cursor.fetchone() == (ids[0],)


async def test_taken_back_to_it_procrastinate_is_as_it_comes(database: Database) -> None:
    async with database.dedicated() as connection:
        await rollback(connection, database.namespace, to=2)
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docyard.procrastinate_jobs'::regclass "
            "AND NOT tgisinternal"
        )
        theirs = load_steps()[1].up.count("CREATE TRIGGER")
        assert await cursor.fetchone() == (theirs,)
        await connection.execute("SET search_path = ''")
        await connection.execute(
            "SELECT docyard.procrastinate_defer_jobs_v1(ARRAY[('q', 't', 0, NULL, NULL, '{}', NULL)]"
            "::docyard.procrastinate_job_to_defer_v1[])"
        )
        cursor = await connection.execute(
            "SELECT id, status::text FROM docyard.procrastinate_fetch_job_v2(NULL, NULL)"
        )
        assert await cursor.fetchone() == (1, "doing")
        await connection.execute("RESET search_path")
        await migrate(connection, database.namespace)
