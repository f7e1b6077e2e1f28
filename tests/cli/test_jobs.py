from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from docyard_queue import NewJob, enqueue

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard


@pytest.fixture
def waiting(on_server: str) -> list[int]:
    """Three jobs that wait."""
    with psycopg.connect(on_server) as connection:
        return [
            enqueue(connection, NewJob("charge", {"order": number, "dsn": "postgresql://a:secret@b/c"}))
            for number in range(3)
        ]


@pytest.fixture
def dead(on_server: str, docyard: Docyard, library: Path) -> int:
    """The id of a job that cannot succeed."""
    assert docyard("ingest", library / "picture.xyz", "--work", "-q").code == 1
    found: int = docyard("jobs", "list", "--state", "dead", "--json").json[0]["id"]
    return found


def test_list_shows_the_newest_first(docyard: Docyard, waiting: list[int]) -> None:
    ended = docyard("jobs", "list")
    assert ended.code == 0
    header, *rows = ended.out.splitlines()
    assert header.split() == ["id", "kind", "queue", "state", "attempts", "created", "error"]
    assert [int(row.split()[0]) for row in rows] == waiting[::-1]


def test_list_filters_and_limits(docyard: Docyard, waiting: list[int]) -> None:
    assert len(docyard("jobs", "list", "--kind", "charge", "--limit", 2, "--json").json) == 2
    assert docyard("jobs", "list", "--queue", "other", "--json").json == []
    assert docyard("jobs", "list", "--batch", uuid4(), "--json").json == []


def test_list_of_nothing_is_no_failure(docyard: Docyard, on_server: str) -> None:
    ended = docyard("jobs", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "No such jobs." in ended.err


def test_an_unknown_state_is_wrong_use_and_names_the_states(docyard: Docyard, on_server: str) -> None:
    ended = docyard("jobs", "list", "--state", "doing")
    assert ended.code == 2
    assert "'doing'" in ended.err
    assert "retryable" in ended.err


def test_show_has_payload_and_masks_passwords(docyard: Docyard, waiting: list[int]) -> None:
    ended = docyard("jobs", "show", waiting[0])
    assert ended.code == 0
    assert '"order": 0' in ended.out
    assert "secret" not in ended.out


def test_show_has_the_traceback_of_every_attempt(docyard: Docyard, dead: int) -> None:
    ended = docyard("jobs", "show", dead)
    assert "Attempt 1: " in ended.out
    assert "Traceback (most recent call last)" in ended.out
    told = docyard("jobs", "show", dead, "--json").json
    assert told["state"] == "dead"
    assert "Traceback" in told["attempt_rows"][0]["traceback"]


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_an_unknown_job_is_a_failure(docyard: Docyard, on_server: str, command: str) -> None:
    ended = docyard("jobs", command, 4711)
    assert ended.code == 1
    assert "error: There is no job 4711." in ended.err
    assert "docyard jobs list" in ended.err


def test_retry_makes_a_dead_job_wait_again(docyard: Docyard, dead: int) -> None:
    ended = docyard("jobs", "retry", dead)
    assert (ended.code, ended.out) == (0, "1 job set to run.\n")
    assert docyard("jobs", "show", dead, "--json").json["state"] == "available"


def test_retry_and_cancel_by_filter_take_all_that_fit(docyard: Docyard, waiting: list[int]) -> None:
    ended = docyard("jobs", "cancel", "--state", "available", "--kind", "charge", "--json")
    assert (ended.code, ended.json) == (0, {"changed": waiting, "left": []})
    assert docyard("jobs", "retry", "--state", "cancelled", "--json").json["changed"] == waiting


def test_a_job_that_had_ended_is_left_as_it_is(docyard: Docyard, waiting: list[int], dead: int) -> None:
    ended = docyard("jobs", "cancel", waiting[0], dead)
    assert ended.code == 1
    assert "1 job cancelled." in ended.out
    assert f"Job {dead} was left as it is: it is dead." in ended.err


@pytest.mark.parametrize("arguments", [(), (1, "--state", "dead")])
def test_retry_wants_ids_or_filters(docyard: Docyard, on_server: str, arguments: tuple[object, ...]) -> None:
    ended = docyard("jobs", "retry", *arguments)
    assert ended.code == 2


def test_a_batch_shows_its_progress_and_failures(docyard: Docyard, library: Path, on_server: str) -> None:
    batch = docyard("ingest", library / "picture.xyz", library, "--work", "--json").json["batch_id"]
    ended = docyard("batches", "show", batch)
    assert ended.code == 0
    assert "finished" in ended.out
    assert "3 new, 1 failed of 4" in ended.out
    told = docyard("batches", "show", batch, "--json").json
    assert (told["dead"], told["kinds"]["ingest"]["total"]) == (1, 4)


def test_an_unknown_batch_is_a_failure(docyard: Docyard, on_server: str) -> None:
    ended = docyard("batches", "show", uuid4())
    assert ended.code == 1
    assert "There is no batch" in ended.err


def test_explain_says_why_a_job_is_not_running(docyard: Docyard, waiting: list[int]) -> None:
    docyard("queues", "pause", "default", "--reason", "a deploy")
    ended = docyard("jobs", "explain", waiting[0])
    assert ended.code == 0
    assert f"Job {waiting[0]} is available." in ended.out
    assert "queue_paused: Queue default is paused: a deploy." in ended.out
    told = docyard("jobs", "explain", waiting[0], "--json").json
    assert [reason["code"] for reason in told["reasons"]] == ["queue_paused", "no_worker"]
    assert docyard("jobs", "explain", 4711).code == 1


def test_redrive_runs_dead_letters_again(docyard: Docyard, dead: int) -> None:
    assert docyard("jobs", "redrive", "--kind", "embed", "--json").json["changed"] == []
    assert docyard("jobs", "redrive", "--older-than", "1d", "--json").json["changed"] == []
    ended = docyard("jobs", "redrive", "--yes")
    assert (ended.code, ended.out) == (0, "1 job set to run.\n")
    assert docyard("jobs", "show", dead, "--json").json["state"] == "available"


def test_a_limit_takes_the_oldest(docyard: Docyard, waiting: list[int]) -> None:
    ended = docyard("jobs", "cancel", "--kind", "charge", "--limit", 2, "--json")
    assert ended.json["changed"] == waiting[:2]


@pytest.mark.parametrize("arguments", [("--state", "completed"), ("--older-than", "soon")])
def test_a_filter_that_means_nothing_is_wrong_use(
    docyard: Docyard, on_server: str, arguments: tuple[str, str]
) -> None:
    ended = docyard("jobs", "retry", *arguments)
    assert ended.code == 2
    assert arguments[1] in ended.err


@pytest.mark.parametrize(("answer", "state"), [("n\n", "available"), ("y\n", "cancelled")])
def test_on_a_terminal_a_filter_is_asked_about(
    waiting: list[int], docyard: Docyard, monkeypatch: pytest.MonkeyPatch, answer: str, state: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("docyard.cli.changing.on_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answer == "y\n")
    ended = docyard("jobs", "cancel", "--kind", "charge")
    assert (asked, ended.code) == (["Cancel 3 jobs?"], 0 if state == "cancelled" else 1)
    assert docyard("jobs", "show", waiting[0], "--json").json["state"] == state


def test_prune_deletes_what_ended_long_ago(docyard: Docyard, waiting: list[int]) -> None:
    docyard("jobs", "cancel", waiting[0], waiting[1])
    assert docyard("jobs", "prune", "--older-than", "7d").out == "0 jobs deleted: 0 completed, 0 cancelled.\n"
    ended = docyard("jobs", "prune", "--older-than", "0s", "--state", "cancelled", "--json")
    assert (ended.code, ended.json) == (0, {"deleted": {"cancelled": 2}})
    assert [job["id"] for job in docyard("jobs", "list", "--json").json] == [waiting[2]]


@pytest.mark.parametrize("arguments", [(), ("--older-than", "7d", "--state", "running")])
def test_prune_wants_an_age_and_a_final_state(
    docyard: Docyard, on_server: str, arguments: tuple[str, ...]
) -> None:
    assert docyard("jobs", "prune", *arguments).code == 2


@pytest.mark.slow
def test_ctrl_c_at_the_question_changes_nothing(waiting: list[int], docyard: Docyard) -> None:
    terminal, stdin = os.openpty()
    command = [sys.executable, "-m", "docyard", "jobs", "cancel", "--kind", "charge"]
    with subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while b"Cancel 3 jobs?" not in said:
            said += os.read(process.stderr.fileno(), 1000) or pytest.fail(said.decode())
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) in (1, 130)
        finally:
            process.kill()
    os.close(terminal)
    os.close(stdin)
    assert docyard("jobs", "show", waiting[0], "--json").json["state"] == "available"
