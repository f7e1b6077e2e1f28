from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema.migrations import load_steps

if TYPE_CHECKING:
    from cli.conftest import Docyard

LAST = len(load_steps())


@pytest.fixture
def empty(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", empty_url)
    return empty_url


def test_migrate_applies_every_step_and_then_nothing(docyard: Docyard, empty: str) -> None:
    first = docyard("db", "migrate", "--json")
    assert (first.code, [step["number"] for step in first.json["steps"]]) == (0, list(range(1, LAST + 1)))
    assert docyard("db", "migrate").out == "Nothing to do: every step is there.\n"
    assert docyard("status").code == 0


def test_a_dry_run_says_what_it_would_do_and_does_nothing(docyard: Docyard, empty: str) -> None:
    ended = docyard("db", "migrate", "--dry-run", "--to", 2)
    assert ended.out.splitlines() == ["Would apply 0001 foundation", "Would apply 0002 procrastinate"]
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT to_regnamespace('docyard')").fetchone() == (None,)


def test_status_before_between_and_after(docyard: Docyard, empty: str) -> None:
    ended = docyard("db", "status")
    assert ended.code == 0
    assert "docyard db migrate" in ended.err
    assert docyard("db", "migrate", "--to", 3).code == 0
    between = docyard("db", "status", "--json").json
    assert (between["step"], len(between["pending"])) == (3, LAST - 3)


def test_rollback_takes_steps_back(docyard: Docyard, on_server: str) -> None:
    ended = docyard("db", "rollback", "--to", LAST - 1)
    assert ended.code == 0
    assert ended.out.startswith(f"Took back {LAST:04}")
    assert docyard("db", "rollback", "--to", LAST - 1).out == "Nothing to take back.\n"


def test_rollback_refuses_to_lose_rows_unless_told(docyard: Docyard, on_server: str) -> None:
    with psycopg.connect(on_server) as connection:
        connection.execute(
            "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name) VALUES ('default', 'charge')"
        )
    refused = docyard("db", "rollback", "--to", 0)
    assert refused.code == 1
    assert "--destroy" in refused.err
    assert docyard("db", "rollback", "--to", 0, "--destroy").code == 0
    assert docyard("db", "status", "--json").json["step"] == 0


def test_a_step_that_does_not_exist_is_a_failure(docyard: Docyard, on_server: str) -> None:
    ended = docyard("db", "rollback", "--to", 99)
    assert ended.code == 1
    assert "There is no schema step 99" in ended.err


def test_drift_finds_what_somebody_changed(docyard: Docyard, on_server: str) -> None:
    clean = docyard("db", "drift")
    assert (clean.code, clean.out) == (0, "")
    with psycopg.connect(on_server) as connection:
        connection.execute("ALTER TABLE docyard.documents ADD COLUMN colour text")
    ended = docyard("db", "drift", "--json")
    assert ended.code == 1
    assert any("colour" in difference for difference in ended.json["differences"])


def test_event_rows_are_switched_on_and_off(docyard: Docyard, on_server: str) -> None:
    assert docyard("db", "events").out == "No event rows are written.\n"
    assert docyard("db", "events", "on").out == "Event rows are written.\n"
    assert docyard("db", "events", "on").out == "Event rows are written, as before.\n"
    assert docyard("db", "events", "--json").json == {"written": True, "changed": False}
    docyard("jobs", "enqueue", "charge")
    assert docyard("db", "events", "off", "--json").json == {"written": False, "changed": True}
    docyard("jobs", "enqueue", "charge")
    with psycopg.connect(on_server) as connection:
        found = connection.execute("SELECT job_id, type::text FROM docyard.procrastinate_events").fetchall()
    assert found == [(1, "deferred")]
    assert docyard("db", "events", "maybe").code == 2


def test_event_rows_need_the_schema(docyard: Docyard, empty: str) -> None:
    ended = docyard("db", "events", "on")
    assert ended.code == 1
    assert "docyard db migrate" in ended.err


def test_roles_are_granted_and_a_dry_run_is_a_script(docyard: Docyard, on_server: str) -> None:
    script = docyard("db", "roles", "--dry-run")
    assert script.code == 0
    # What it prints is for psql. The server is other tests' too, so the roles may be there already.
    granted = [line for line in script.out.splitlines() if not line.startswith("CREATE ROLE")]
    assert all(line.endswith(";") for line in granted)
    ended = docyard("db", "roles")
    assert (ended.code, "docyard_operator" in ended.out) == (0, True)
    assert docyard("db", "roles", "--json").json["roles"]["docyard_viewer"]
    with psycopg.connect(on_server) as connection:
        for line in granted:
            connection.execute(line.encode())
        connection.execute("SET ROLE docyard_producer")
        assert connection.execute("SELECT docyard.enqueue('work')").fetchone() == (1,)
