"""What is wrong with a database is named, with what to do; nothing can keep the doctor from answering."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.scratch_server import ScratchServer

from docyard_queue.diagnosis import examination
from docyard_queue.diagnosis import server as server_checks
from docyard_schema import Database
from docyard_schema.roles import grant_roles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.conftest import Docyard

    from docyard_schema.embedded import EmbeddedServer


@contextmanager
def on(url: str, **arguments: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True, **arguments) as connection:
        yield connection


def execute(url: str, *statements: str) -> None:
    with on(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def scratch() -> Iterator[ScratchServer]:
    """A server whose settings a test may change."""
    running = ScratchServer().start()
    yield running
    running.remove()


def told(docyard: Docyard, check: str, *arguments: object) -> list[dict[str, str]]:
    """What ``docyard doctor`` finds by one check."""
    findings = docyard("doctor", "--json", *arguments).json["findings"]
    return [finding for finding in findings if finding["check"] == check]


def add_worker(url: str, *, silent_seconds: int = 0, kinds: str = "work", queues: str = "NULL") -> int:
    with on(url) as connection:
        row = connection.execute(
            "INSERT INTO docyard.procrastinate_workers "
            "(last_heartbeat, host, pid, heartbeat_seconds, kinds, queues) "
            f"VALUES (now() - interval '{silent_seconds} seconds', 'far', 7, 5, ARRAY['{kinds}'], {queues}) "
            "RETURNING id".encode()
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_database_without_a_complaint_is_well(docyard: Docyard, tmp_path: Path) -> None:
    home = tmp_path / "yard"
    assert docyard("status", "--home", home).code == 0
    ended = docyard("doctor", "--home", home, "--json")
    assert [row for row in ended.json["findings"] if row["level"] != "ok"] == []
    assert (ended.code, ended.json["problems"], ended.json["warnings"]) == (0, 0, 0)


def test_a_new_embedded_database_is_no_problem(docyard: Docyard, tmp_path: Path) -> None:
    ended = docyard("doctor", "--home", tmp_path / "yard", "--json")
    assert (ended.code, ended.json["problems"]) == (0, 0)
    assert "brings the embedded database up to date" in ended.out


def test_every_check_answers(docyard: Docyard, on_server: str) -> None:
    findings = docyard("doctor", "--json").json["findings"]
    assert {finding["check"] for finding in findings} == set(examination._CHECKS)


def test_people_get_a_table_and_programs_an_exit_code(docyard: Docyard, on_server: str) -> None:
    ended = docyard("doctor")
    # The tests' own server runs without fsync.
    assert ended.code == 1
    assert "fsync is off" in ended.out
    assert "versions" in ended.out
    assert "problem" in ended.err


def test_who_holds_a_transaction_open_is_named(docyard: Docyard, on_server: str) -> None:
    name = f"nightly {uuid4().hex[:6]}"
    with psycopg.connect(on_server, application_name=name) as holder:
        holder.execute("SELECT count(*) FROM docyard.procrastinate_jobs")
        assert "none is open" in told(docyard, "transactions")[0]["finding"]
        [found] = told(docyard, "transactions", "--transaction-seconds", "0")
        assert found["level"] == "warning"
        for part in (f"pid {holder.info.backend_pid}", name, "user postgres", "idle in transaction"):
            assert part in found["finding"]
        assert "SELECT count(*) FROM docyard.procrastinate_jobs" in found["finding"]
        assert f"pg_terminate_backend({holder.info.backend_pid})" in found["advice"]


def test_a_prepared_transaction_and_a_slot_that_nobody_reads_are_named(
    docyard: Docyard, scratch: ScratchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.execute("ALTER SYSTEM SET max_prepared_transactions = 5")
    scratch.stop()
    url = scratch.start().local_url()
    monkeypatch.setenv("DOCYARD_DATABASE_URL", url)
    execute(
        url,
        "SELECT pg_create_physical_replication_slot('old_standby', true)",
        "BEGIN",
        "CREATE TABLE kept ()",
        "PREPARE TRANSACTION 'half done'",
    )
    [held] = told(docyard, "transactions", "--transaction-seconds", "0")
    assert (held["level"], "'half done'" in held["finding"]) == ("problem", True)
    assert "ROLLBACK PREPARED 'half done'" in held["advice"]
    [slot] = told(docyard, "replication slots")
    assert (slot["level"], "'old_standby'" in slot["finding"]) == ("warning", True)


def test_jobs_that_wait_without_any_worker_are_a_problem(docyard: Docyard, on_server: str) -> None:
    execute(on_server, "SELECT docyard.enqueue('work')")
    [found] = told(docyard, "workers")
    assert (found["level"], found["finding"]) == ("problem", "none lives, and 1 job could run")


def test_a_silent_worker_is_named_with_the_jobs_that_it_holds(docyard: Docyard, on_server: str) -> None:
    worker = add_worker(on_server, silent_seconds=60)
    execute(
        on_server,
        "SELECT docyard.enqueue('work')",
        f"UPDATE docyard.procrastinate_jobs SET status = 'doing', worker_id = {worker}, started_at = now()",
    )
    [found] = told(docyard, "workers")
    assert found["level"] == "warning"
    assert f"worker {worker} (host far, pid 7) has been silent for 6" in found["finding"]
    assert "holds 1 job" in found["finding"]
    [orphans] = told(docyard, "running jobs")
    assert orphans["finding"] == "1 job under no living worker"


def test_a_paused_queue_with_waiting_jobs_is_named(docyard: Docyard, on_server: str) -> None:
    docyard("queues", "pause", "billing")
    assert told(docyard, "paused queues")[0]["level"] == "ok"
    execute(on_server, "SELECT docyard.enqueue('charge', queue => 'billing')")
    [found] = told(docyard, "paused queues")
    assert found["finding"] == "billing is paused with 1 waiting job"
    assert "docyard queues resume billing" in found["advice"]


def test_a_kind_that_no_living_worker_takes_is_named(docyard: Docyard, on_server: str) -> None:
    add_worker(on_server, kinds="work", queues="ARRAY['default']")
    add_worker(on_server, kinds="charge", silent_seconds=60)
    execute(on_server, "SELECT docyard.enqueue('work')")
    assert told(docyard, "kinds")[0]["level"] == "ok"
    execute(on_server, "SELECT docyard.enqueue('charge')", "SELECT docyard.enqueue('work', queue => 'other')")
    found = " ".join(finding["finding"] for finding in told(docyard, "kinds"))
    assert "kind 'charge' wait in queue 'default'" in found
    assert "kind 'work' wait in queue 'other'" in found


def test_a_job_that_has_been_due_for_long_is_told(docyard: Docyard, on_server: str) -> None:
    execute(on_server, "SELECT docyard.enqueue('work', run_at => now() - interval '3 hours')")
    [found] = told(docyard, "waiting jobs")
    assert (found["level"], found["finding"]) == (
        "warning",
        "the oldest has been due for 3 h, in queue default",
    )


def test_dead_letters_of_the_last_day_are_counted_with_their_reason(docyard: Docyard, on_server: str) -> None:
    execute(
        on_server,
        "SELECT docyard.enqueue('work') FROM generate_series(1, 3)",
        "UPDATE docyard.procrastinate_jobs SET status = 'failed', error_code = 'timeout', "
        "finished_at = now() - CASE WHEN id = 1 THEN interval '2 days' ELSE interval '1 hour' END",
    )
    [found] = told(docyard, "dead letters")
    assert found["finding"] == "2 jobs within 24 hours, most of kind work, most for timeout"


def test_an_invalid_index_and_a_table_without_autovacuum_are_problems(
    docyard: Docyard, on_server: str
) -> None:
    execute(
        on_server,
        "CREATE INDEX half_built ON docyard.procrastinate_jobs (attempts)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docyard.half_built'::regclass",
        "ALTER TABLE docyard.job_attempts SET (autovacuum_enabled = off)",
    )
    [index] = told(docyard, "indexes")
    assert (index["level"], "half_built" in index["finding"]) == ("problem", True)
    [table] = told(docyard, "dead rows")
    assert (table["level"], "job_attempts" in table["finding"]) == ("problem", True)
    [drift] = told(docyard, "drift")
    assert drift["finding"].startswith("2 differences")


def test_a_schema_that_is_behind_is_a_problem_and_the_rest_is_still_looked_at(
    docyard: Docyard, on_server: str
) -> None:
    assert docyard("db", "rollback", "--to", "6").code == 0
    ended = docyard("doctor", "--json")
    findings = {finding["check"]: finding for finding in ended.json["findings"]}
    assert ended.code == 1
    assert findings["migrations"]["level"] == "problem"
    assert findings["migrations"]["advice"] == "Run: docyard db migrate"
    assert "could not look" in findings["workers"]["finding"]
    assert findings["clock"]["level"] == "ok"


def test_an_empty_database_does_not_stop_the_doctor(
    docyard: Docyard, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", empty_url)
    findings = {finding["check"]: finding for finding in docyard("doctor", "--json").json["findings"]}
    assert findings["migrations"]["level"] == "problem"
    assert findings["versions"]["level"] == "problem"


def test_a_database_that_cannot_be_reached_is_a_finding(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    ended = docyard("doctor", "--json")
    [found] = ended.json["findings"]
    assert (ended.code, found["check"], found["level"]) == (1, "connection", "problem")
    assert "127.0.0.1" in found["finding"]


def test_a_clock_that_is_off_is_told(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return time.time() + 3600

    monkeypatch.setattr(server_checks, "time", Ahead)
    [found] = told(docyard, "clock")
    assert (found["level"], found["finding"]) == (
        "warning",
        "this machine is 60 min ahead of the database",
    )


def test_a_pooler_in_the_settings_that_is_not_there_is_told(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_POOLER", "transaction")
    assert told(docyard, "pooler")[0]["level"] == "warning"
    [found] = told(docyard, "notifications")
    assert "DOCYARD_DIRECT_DATABASE_URL" in found["advice"]
    monkeypatch.setenv("DOCYARD_DIRECT_DATABASE_URL", on_server)
    assert told(docyard, "notifications")[0]["level"] == "ok"


@pytest.mark.parametrize("role", ["viewer", "operator", "producer"])
def test_who_may_not_see_something_is_told_so_and_sees_the_rest(
    docyard: Docyard, server: EmbeddedServer, on_server: str, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    async def grant() -> None:
        async with await Database.connect(on_server) as database, database.dedicated() as connection:
            await grant_roles(connection, database.namespace)

    asyncio.run(grant())
    add_worker(on_server)
    name = f"user_{uuid4().hex[:12]}"
    execute(on_server, f"CREATE ROLE {name} LOGIN", f"GRANT docyard_{role} TO {name}")
    try:
        monkeypatch.setenv("DOCYARD_DATABASE_URL", make_conninfo(on_server, user=name))
        findings = {finding["check"]: finding for finding in docyard("doctor", "--json").json["findings"]}
    finally:
        execute(on_server, f"DROP ROLE {name}")
    assert "needs pg_monitor" in findings["transactions"]["finding"]
    assert f'GRANT pg_monitor TO "{name}"' in findings["transactions"]["advice"]
    assert findings["notifications"]["level"] == "ok"
    # A producer reads nothing of docyard's.
    blind = "could not look" in findings["workers"]["finding"]
    assert blind == (role == "producer")
    # Which kinds wait is in no view.
    assert ("could not look" in findings["kinds"]["finding"]) == (role != "operator")
