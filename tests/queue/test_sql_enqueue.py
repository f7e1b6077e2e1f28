"""``SELECT docyard.enqueue(…)``: jobs from any language, as those of Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from support.queueing import add, claim, query, row, states

from docyard_queue import NewJob, enqueue
from docyard_queue.payload import MAXIMUM_PAYLOAD_BYTES, encode_payload
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database

ITS_OWN = {"id", "created_at"}


def call(connection: psycopg.Connection[Any], schema: str = "docyard", **arguments: Any) -> int:
    """The function with these arguments by name, as another language's driver would call it."""
    given = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in arguments
    )
    values = {
        name: json.dumps(value) if name == "payload" and isinstance(value, dict) else value
        for name, value in arguments.items()
    }
    statement = sql.SQL("SELECT {}.enqueue({})").format(sql.Identifier(schema), given)
    [made] = connection.execute(statement, values).fetchone() or [None]
    assert isinstance(made, int)
    return made


FULL: dict[str, Any] = {
    "kind": "k" * 128, "payload": {"ü": [1, None, {"deep": "x, y: z"}]}, "queue": "büro", "priority": -3,
    "run_at": datetime(2031, 1, 2, 3, 4, 5, 678900, tzinfo=UTC), "max_attempts": 7,
    "timeout": timedelta(milliseconds=1500), "unique_key": "ü" * 512, "lock_key": "l" * 1024,
    "batch_id": uuid4(),
}  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "work"},
        FULL,
        {"kind": "work", "unique_key": "k", "unique_scope": "until_done"},
        {"kind": "work", "unique_key": "k", "unique_for": timedelta(hours=1), "timeout": timedelta(days=2)},
    ],
    ids=["defaults", "everything", "until done", "a period"],
)
def test_sql_and_python_store_the_same_job(url: str, options: dict[str, Any]) -> None:
    def stored(by: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        with psycopg.connect(url) as connection:
            connection.execute("SET LOCAL docyard.now = '2030-01-01 00:00:00+00'")
            job_id = enqueue(connection, NewJob(**options)) if by == "python" else call(connection, **options)
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute("SELECT * FROM docyard.procrastinate_jobs WHERE id = %s", [job_id])
                [job] = cursor.fetchall()
                cursor.execute("SELECT key, expires_at FROM docyard.unique_keys WHERE job_id = %s", [job_id])
                keys = cursor.fetchall()
            connection.rollback()
        return {name: value for name, value in job.items() if name not in ITS_OWN}, keys

    assert stored("python") == stored("sql")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": ""}, "kind is text, not empty"),
        ({"kind": "k" * 129}, "1 to 128 characters"),
        ({"queue": "q" * 41}, "1 to 40 bytes"),
        ({"queue": "ü" * 21}, "1 to 40 bytes"),
        ({"max_attempts": 0}, "max_attempts is at least 1"),
        ({"timeout": timedelta(0)}, "timeout is longer than zero"),
        ({"timeout": timedelta(seconds=-1)}, "timeout is longer than zero"),
        ({"lock_key": "l" * 1025}, "lock_key has 1 to 1,024 bytes, got 1,?025"),
        ({"unique_key": "ü" * 513}, "unique_key has 1 to 1,024 bytes, got 1,?026"),
        ({"payload": {"x": "y" * MAXIMUM_PAYLOAD_BYTES}}, "has 1,?048,?584 bytes; the most is 1,048,576"),
        ({"payload": {"x": [1] * 600_000}}, "has 1,?200,?007 bytes; the most is 1,048,576"),
        ({"payload": {"x": "y" * 3_000_000}}, "bytes; the most is 1,048,576"),
        ({"unique_scope": "until_done"}, "need a unique_key"),
        ({"unique_for": timedelta(hours=1)}, "need a unique_key"),
        ({"unique_key": "k", "unique_scope": "forever"}, "unique_scope is 'waiting' or 'until_done'"),
        (
            {"unique_key": "k", "unique_scope": "until_done", "unique_for": timedelta(hours=1)},
            "either until_done or for a period",
        ),
        ({"unique_key": "k", "unique_for": timedelta(0)}, "unique_for is longer than zero"),
        ({"unique_key": "k", "unique_for": timedelta.max}, "at most 3,650 days"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_sql_and_python_refuse_the_same_jobs(url: str, options: dict[str, Any], complaint: str) -> None:
    asked = {"kind": "work"} | options
    with pytest.raises(InvalidInput, match=complaint):
        encode_payload(NewJob(**asked))
    with (
        psycopg.connect(url) as connection,
        pytest.raises(psycopg.errors.InvalidParameterValue, match=complaint) as refused,
    ):
        call(connection, **asked)
    assert refused.value.sqlstate == "22023"
    assert refused.value.diag.message_hint


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": None}, "kind is text"),
        ({"queue": ""}, "1 to 40 bytes"),
        ({"unique_key": ""}, "unique_key has 1 to 1,024 bytes"),
        ({"lock_key": ""}, "lock_key has 1 to 1,024 bytes"),
        ({"payload": "[1]"}, "is a JSON object, got array"),
        ({"payload": "null"}, "is a JSON object, got null"),
        ({"run_at": "infinity"}, "years 1 to 9999"),
        ({"run_at": "12000-01-01"}, "years 1 to 9999"),
    ],
)
def test_what_only_sql_can_say_wrong_is_refused(url: str, options: dict[str, Any], complaint: str) -> None:
    with (
        psycopg.connect(url) as connection,
        pytest.raises(psycopg.errors.InvalidParameterValue, match=complaint) as refused,
    ):
        call(connection, **({"kind": "work"} | options))
    assert refused.value.diag.message_hint


@pytest.mark.parametrize(
    "payload",
    [
        {"x": "y" * (MAXIMUM_PAYLOAD_BYTES - 8)},
        {"a": '", \\" : ,' * 50_000, "b": [1, 2, {"c, d": ": "}] * 20_000},
        {"n": [[1, 2]] * 170_000},
    ],
    ids=["letters", "text that looks like JSON", "many commas"],
)
def test_sql_and_python_measure_a_payload_alike(url: str, payload: dict[str, Any]) -> None:
    text = encode_payload(NewJob("work", payload))
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT docyard.payload_bytes(given), octet_length(given::text) "
            "FROM (SELECT %s::jsonb) AS _ (given)",
            [text],
        ).fetchone()
        assert row is not None
        assert row[0] in (len(text.encode()), row[1])
        assert (row[0] <= MAXIMUM_PAYLOAD_BYTES) == (len(text.encode()) <= MAXIMUM_PAYLOAD_BYTES)
        assert call(connection, kind="work", payload=payload)


def test_null_is_the_default(url: str) -> None:
    with psycopg.connect(url) as connection:
        names = ["payload", "queue", "priority", "unique_scope"]
        call(connection, kind="work")
        call(connection, kind="work", **dict.fromkeys(names))
        rows = connection.execute(
            "SELECT DISTINCT args, queue_name, priority, status FROM docyard.procrastinate_jobs"
        ).fetchall()
    assert rows == [({}, "default", 0, "todo")]


def test_it_is_part_of_the_callers_transaction(url: str) -> None:
    with psycopg.connect(url) as connection:
        call(connection, kind="work")
        connection.rollback()
        kept = connection.execute("SELECT docyard.enqueue('work', '{\"n\": 1}', 'mail')").fetchone()
        connection.commit()
        assert connection.execute("SELECT id, queue FROM docyard.jobs").fetchall() == [
            (*(kept or ()), "mail")
        ]


async def test_its_jobs_are_claimed_as_any_other(database: Database, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        made = call(connection, kind="work", payload={"n": 1}, timeout="90 seconds", max_attempts=2)
    [job] = await claim(database)
    assert (job.id, job.payload, job.timeout_seconds, job.max_attempts) == (made, {"n": 1}, 90.0, 2)


async def test_sql_and_python_share_their_unique_keys(database: Database, url: str) -> None:
    scopes: list[dict[str, Any]] = [{}, {"unique_scope": "until_done"}, {"unique_for": timedelta(hours=1)}]
    with psycopg.connect(url, autocommit=True) as connection:
        for number, scope in enumerate(scopes):
            options = {"kind": "work", "unique_key": f"key {number}", **scope}
            [first] = await add(database, NewJob(**options))
            assert call(connection, **options) == first
            assert enqueue(connection, NewJob(**options)) == first
    assert len(await states(database)) == 3


async def test_it_wakes_listeners(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as listening, psycopg.connect(url) as connection:
        listening.execute('LISTEN "procrastinate_queue_v1#mail"')
        made = call(connection, kind="work", queue="mail")
        connection.commit()
        [notice] = listening.notifies(timeout=10, stop_after=1)
    assert json.loads(notice.payload) == {"type": "job_inserted", "job_id": made}


def test_it_works_in_a_schema_of_another_name_and_under_a_hostile_path(empty_url: str) -> None:
    import asyncio

    from conftest import opened

    async def make() -> None:
        async with opened(empty_url, database_schema="order", auto_migrate=True):
            pass

    asyncio.run(make())
    with psycopg.connect(empty_url) as connection:
        connection.execute(
            "CREATE TEMP TABLE procrastinate_jobs (id int); CREATE TEMP TABLE unique_keys (key text)"
        )
        connection.execute("SET search_path = pg_temp")
        assert call(connection, "order", kind="work") == 1
        second = call(connection, "order", kind="work", unique_key="k", unique_scope="until_done")
        assert call(connection, "order", kind="work", unique_key="k", unique_scope="until_done") == second


async def test_it_may_not_be_called_by_everybody(database: Database) -> None:
    [found] = await query(
        database,
        "SELECT p.prosecdef, p.proconfig, has_function_privilege('pg_monitor', p.oid, 'EXECUTE') AS open "
        "FROM pg_proc AS p WHERE p.proname = 'enqueue' AND p.pronamespace = 'docyard'::regnamespace",
    )
    assert found == {"prosecdef": True, "proconfig": ["search_path=pg_catalog, pg_temp"], "open": False}


async def test_a_timeout_in_months_is_seconds(database: Database, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        made = call(connection, kind="work", timeout="1 month")
    assert (await row(database, made))["timeout_seconds"] == 30 * 86400
