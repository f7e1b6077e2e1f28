"""Each role does its work and nothing else, however it tries."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import opened
from psycopg import errors
from psycopg.conninfo import make_conninfo
from roles.conftest import grant

from docyard_queue import Inspection
from docyard_queue.budgets import list_budgets, set_budget
from docyard_queue.explain import explain
from docyard_queue.limits import Limits, Rate, limits_of, set_limits
from docyard_queue.selection import Change, Selection, change_selected
from docyard_schema import Database, DatabaseError, DatabaseSettings, SchemaMismatch
from docyard_schema.migrations import find_drift, rollback
from docyard_schema.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.scratch_server import ScratchServer


READS = [
    "SELECT args FROM docyard.procrastinate_jobs",
    "SELECT result FROM docyard.procrastinate_jobs",
    "SELECT * FROM docyard.procrastinate_jobs",
    "SELECT id FROM docyard.procrastinate_jobs WHERE args @> '{\"secret\": 1}'",
    "COPY docyard.procrastinate_jobs TO STDOUT",
    "SELECT traceback FROM docyard.job_attempts",
    "SELECT key FROM docyard.unique_keys",
    "SELECT text FROM docyard.chunks",
    "SELECT * FROM docyard.documents",
]
WRITES = [
    "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name) VALUES ('default', 'work')",
    "COPY docyard.procrastinate_jobs (queue_name, task_name) FROM STDIN",
    "UPDATE docyard.procrastinate_jobs SET lease = lease + 1",
    "UPDATE docyard.procrastinate_jobs SET args = '{}'",
    "UPDATE docyard.procrastinate_jobs SET task_name = 'other'",
    "DELETE FROM docyard.procrastinate_jobs",
    "INSERT INTO docyard.unique_keys (key, job_id) VALUES ('mine', 1)",
    "UPDATE docyard.jobs SET priority = 1",
    "DELETE FROM docyard.batches",
    "SELECT nextval('docyard.procrastinate_jobs_id_seq')",
    "SELECT docyard.insert_job('a', '{}', '', 0, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, 1)",
    "SELECT docyard.procrastinate_cancel_job_v1(1, true, true)",
    "SELECT docyard.procrastinate_defer_jobs_v1(NULL)",
]
OF_THE_OWNER = [
    "CREATE TABLE docyard.mine ()",
    "CREATE FUNCTION docyard.clock() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION docyard.payload_bytes(payload jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE docyard.procrastinate_jobs DISABLE TRIGGER ALL",
    "DROP TABLE docyard.unique_keys",
    "TRUNCATE docyard.procrastinate_jobs CASCADE",
    "DELETE FROM docyard.schema_migrations",
    "ALTER FUNCTION docyard.payload_bytes(jsonb) SET search_path = public",
    "GRANT docyard_worker TO CURRENT_USER",
    "SET ROLE postgres",
    "CREATE ROLE mine",
]
FUNCTION = "SELECT docyard.enqueue('work')"


def denied(url: str, statement: str) -> None:
    with (
        psycopg.connect(url) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("role", "statements"),
    [
        (
            "producer",
            [*READS, *WRITES, *OF_THE_OWNER, "SELECT id FROM docyard.jobs", "SELECT docyard.clock()"],
        ),
        ("viewer", [*READS, *WRITES, *OF_THE_OWNER, FUNCTION]),
        ("operator", [*READS, *WRITES, *OF_THE_OWNER, FUNCTION]),
        ("worker", [*OF_THE_OWNER, "UPDATE docyard.schema_migrations SET name = 'x'"]),
        (
            "",
            [
                *READS,
                *WRITES,
                *OF_THE_OWNER,
                FUNCTION,
                "SELECT id FROM docyard.jobs",
                "SELECT docyard.clock()",
            ],
        ),
    ],
    ids=["producer", "viewer", "operator", "worker", "nobody"],
)
def test_a_role_cannot_do_what_is_not_its_own(
    as_member: Callable[[str], str], role: str, statements: list[str]
) -> None:
    url = as_member(role)
    for statement in statements:
        denied(url, statement)


def test_a_producer_adds_jobs_and_gets_the_id_of_a_holder(
    as_member: Callable[[str], str], granted: str
) -> None:
    with psycopg.connect(as_member("producer")) as connection:
        [made] = (
            connection.execute("SELECT docyard.enqueue('work', '{\"n\": 1}', batch_id => NULL)").fetchone()
            or []
        )
        again = connection.execute("SELECT docyard.enqueue('work', unique_key => 'k')").fetchone()
        held = "SELECT docyard.enqueue('work', unique_key => 'x', unique_scope => 'until_done')"
        assert connection.execute(held).fetchone() == connection.execute(held).fetchone()
    with psycopg.connect(granted) as owner:
        jobs = owner.execute("SELECT id, kind, unique_key FROM docyard.jobs ORDER BY id").fetchall()
    assert (made, "work", None) in jobs
    assert again == (jobs[0][0],)
    assert len(jobs) == 3


def test_a_producers_own_objects_are_not_taken_for_docyards(
    as_member: Callable[[str], str], granted: str
) -> None:
    with psycopg.connect(granted, autocommit=True) as owner:
        owner.execute("GRANT CREATE ON SCHEMA public TO docyard_producer")
    with psycopg.connect(as_member("producer")) as connection:
        # Were a name in the function looked up in the caller's path, these would run with its owner's rights.
        connection.execute("CREATE TEMP TABLE procrastinate_jobs (task_name text, args jsonb)")
        connection.execute("CREATE TEMP TABLE unique_keys (key text, job_id bigint, expires_at timestamptz)")
        for schema in ("pg_temp", "public"):
            for name, takes, gives in (
                ("format", "text, VARIADIC text[]", "text"), ("coalesce_", "text", "text"),
                ("octet_length", "text", "integer"), ("length", "text", "integer"),
                ("nextval", "regclass", "bigint"), ("jsonb_typeof", "jsonb", "text"),
                ("pg_notify", "text, text", "void"), ("clock", "", "timestamptz"),
            ):  # fmt: skip
                connection.execute(
                    f"CREATE FUNCTION {schema}.{name}({takes}) RETURNS {gives} LANGUAGE plpgsql AS "
                    "$$ BEGIN EXECUTE 'ALTER ROLE ' || quote_ident(session_user) || ' SUPERUSER'; "
                    "RAISE EXCEPTION 'caught by %', current_user; END $$".encode()
                )
        connection.execute(
            "CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'caught by %', current_user; END $$; "
            "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same)"
        )
        connection.execute("SET search_path = pg_temp, public, pg_catalog")
        for scope in ("", ", unique_key => 'x'", ", unique_key => 'x', unique_scope => 'until_done'"):
            connection.execute(f"SELECT docyard.enqueue('work', '{{\"n\": 1}}'{scope})".encode())
        kept = connection.execute("SELECT count(*) FROM pg_temp.procrastinate_jobs").fetchone()
        connection.execute("RESET search_path")
        assert kept == (0,)
        connection.rollback()


def test_a_payload_is_data_and_never_sql(as_member: Callable[[str], str], granted: str) -> None:
    hostile = "'); DROP TABLE docyard.unique_keys; --"
    with psycopg.connect(as_member("producer")) as connection:
        for column in ("kind", "unique_key", "lock_key"):
            arguments = {"kind": "work", column: hostile}
            connection.execute(
                "SELECT docyard.enqueue(%(kind)s, unique_key => %(unique_key)s, lock_key => %(lock_key)s)",
                {"unique_key": None, "lock_key": None} | arguments,
            )
        with pytest.raises(errors.InvalidParameterValue):
            connection.execute("SELECT docyard.enqueue('work', queue => %s)", [hostile * 2])
    with psycopg.connect(granted) as owner:
        assert owner.execute("SELECT count(*) FROM docyard.unique_keys").fetchone() == (0,)


def test_an_error_tells_a_producer_no_payload(as_member: Callable[[str], str]) -> None:
    with (
        psycopg.connect(as_member("producer")) as connection,
        pytest.raises(errors.InvalidParameterValue) as refused,
    ):
        connection.execute("SELECT docyard.enqueue('work', unique_key => 'k', unique_scope => 'x')")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("role", ["viewer", "operator", "worker"])
def test_those_who_look_read_every_view(as_member: Callable[[str], str], role: str) -> None:
    with psycopg.connect(as_member(role)) as connection:
        views = connection.execute(
            "SELECT viewname FROM pg_views WHERE schemaname = 'docyard' ORDER BY 1"
        ).fetchall()
        assert len(views) >= 7
        for (view,) in views:
            connection.execute(f"SELECT * FROM docyard.{view}".encode()).fetchall()
        assert connection.execute("SELECT state FROM docyard.jobs").fetchall() == [("available",)]


async def test_an_operator_retries_cancels_and_pauses(as_member: Callable[[str], str], granted: str) -> None:
    async with opened(as_member("operator")) as database:
        operating = Inspection(database)
        [job] = await operating.jobs()
        assert await operating.cancel([job.id]) == {job.id: False}
        assert await operating.retry([job.id]) == [job.id]
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO docyard.queues (name, paused) VALUES ('default', true) "
                "ON CONFLICT (name) DO UPDATE SET paused = true"
            )
        assert [queue.paused for queue in await operating.queues()] == [True]
        assert {reason.code for reason in (await explain(database, job.id)).reasons} >= {"queue_paused"}
        await set_limits(database, "default", Limits(concurrency=3, rate=Rate(5, timedelta(seconds=1))))
        assert (await limits_of(database, "default")).concurrency == 3
        await set_budget(database, "openai", "tokens", Rate(5, timedelta(seconds=1)))
        assert [budget.name for budget in await list_budgets(database)] == ["openai"]
        assert await change_selected(database, Change.CANCEL, Selection(kind=job.kind)) == [job.id]
        assert await change_selected(database, Change.RETRY, Selection(state="cancelled")) == [job.id]
        with pytest.raises(errors.InsufficientPrivilege):
            await operating.payload_and_result(job.id)


async def test_granting_again_changes_nothing_and_drift_sees_none(granted: str) -> None:
    def rights() -> list[tuple[object, ...]]:
        with psycopg.connect(granted) as connection:
            return connection.execute(
                "SELECT relname::text, relacl::text FROM pg_class "
                "WHERE relnamespace = 'docyard'::regnamespace "
                "UNION ALL SELECT oid::regprocedure::text, proacl::text FROM pg_proc "
                "WHERE pronamespace = 'docyard'::regnamespace ORDER BY 1"
            ).fetchall()

    before = rights()
    assert await grant(granted)
    assert rights() == before
    async with opened(granted) as database, database.dedicated() as connection:
        from docyard_schema.migrations import load_steps

        assert await find_drift(connection, database.namespace, to=len(load_steps())) == []


async def test_what_somebody_gave_besides_is_taken_away(
    as_member: Callable[[str], str], granted: str
) -> None:
    with psycopg.connect(granted) as owner:
        owner.execute("GRANT SELECT ON docyard.procrastinate_jobs TO docyard_viewer")
        owner.execute("GRANT SELECT (args) ON docyard.procrastinate_jobs TO docyard_operator")
        owner.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA docyard TO PUBLIC")
    await grant(granted)
    denied(as_member("viewer"), READS[0])
    denied(as_member("operator"), READS[0])
    denied(as_member("viewer"), FUNCTION)


async def test_several_may_grant_at_once(granted: str) -> None:
    assert len(await asyncio.gather(*[grant(granted) for _ in range(5)])) == 5


async def test_a_dry_run_does_nothing(member: Callable[..., str], url: str) -> None:
    statements = await grant(url, dry_run=True)
    assert any("GRANT EXECUTE" in statement and "docyard.enqueue(" in statement for statement in statements)
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_class "
            "WHERE relnamespace = 'docyard'::regnamespace AND relacl IS NOT NULL"
        ).fetchone()
    assert found == (0,)


async def test_who_does_not_own_the_schema_is_told_who_does(as_member: Callable[[str], str]) -> None:
    url = as_member("worker")
    with pytest.raises(DatabaseError) as refused:
        await grant(url)
    assert 'it belongs to "postgres"' in refused.value.message
    assert refused.value.hint == 'As "postgres" run: docyard db roles'


def test_an_owner_who_may_not_make_roles_is_told_who_can(
    scratch: ScratchServer,
) -> None:
    docyard_owner = "deployer"

    async def attempt() -> DatabaseError:
        settings = DatabaseSettings(auto_migrate=True)
        url = make_conninfo(scratch.local_url("app"), user=docyard_owner)
        async with await Database.connect(url, settings=settings) as database:
            await database.initialize()
        with pytest.raises(DatabaseError) as refused:
            await grant(url)
        return refused.value

    scratch.execute(f"CREATE ROLE {docyard_owner} LOGIN")
    scratch.execute(f"CREATE DATABASE app OWNER {docyard_owner}")
    scratch.execute("CREATE EXTENSION vector", "app")
    refused = asyncio.run(attempt())
    assert "may not make roles: permission denied to create role" in refused.message
    assert "psql -d 'app' -c 'CREATE ROLE \"docyard_producer\" NOLOGIN; " in refused.hint
    # What the hint says, and then again.
    for role in ROLES:
        scratch.execute(f"CREATE ROLE {role} NOLOGIN")
    asyncio.run(grant(make_conninfo(scratch.local_url("app"), user=docyard_owner)))


async def test_a_schema_that_is_not_up_to_date_is_migrated_first(
    member: Callable[..., str], url: str
) -> None:
    async with await Database.connect(url) as database, database.dedicated() as connection:
        await rollback(connection, database.namespace, to=7)
    with pytest.raises(SchemaMismatch, match="docyard db migrate"):
        await grant(url)


def test_a_role_logs_nobody_in(granted: str) -> None:
    for role in ROLES:
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            psycopg.connect(make_conninfo(granted, user=role))
