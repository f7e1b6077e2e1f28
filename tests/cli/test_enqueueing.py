from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from docyard.cli.application import app

if TYPE_CHECKING:
    from cli.conftest import Docyard


def shown(docyard: Docyard, job_id: object) -> dict[str, Any]:
    found: dict[str, Any] = docyard("jobs", "show", job_id, "--json").json
    return found


def test_enqueue_prints_the_id_alone(docyard: Docyard, on_server: str) -> None:
    ended = docyard("jobs", "enqueue", "charge", '{"order": 7}')
    assert (ended.code, ended.out) == (0, "1\n")
    job = shown(docyard, 1)
    assert (job["kind"], job["queue"], job["priority"], job["state"]) == ("charge", "default", 0, "available")
    assert job["payload"] == {"order": 7}
    assert docyard("jobs", "enqueue", "charge", "--json").json == {"id": 2}
    assert shown(docyard, 2)["payload"] == {}


def test_enqueue_takes_what_a_job_can_have(docyard: Docyard, on_server: str) -> None:
    options = ("--queue", "billing", "--priority", -3, "--max-attempts", 5)
    keys = ("--unique-key", "k", "--lock-key", "l", "--run-at", "2100-01-01T03:00:00+02:00")
    assert docyard("jobs", "enqueue", "charge", "{}", *options, *keys).out == "1\n"
    job = shown(docyard, 1)
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("billing", -3, 5)
    assert (job["unique_key"], job["lock_key"], job["state"]) == ("k", "l", "scheduled")
    assert datetime.fromisoformat(job["run_at"]) == datetime(2100, 1, 1, 1, tzinfo=UTC)
    # The holder of the key, and no second one.
    assert docyard("jobs", "enqueue", "charge", "{}", "--unique-key", "k").out == "1\n"
    assert len(docyard("jobs", "list", "--json").json) == 1


def test_enqueue_in_a_while(docyard: Docyard, on_server: str) -> None:
    docyard("jobs", "enqueue", "charge", "--in", "2h")
    wait = datetime.fromisoformat(shown(docyard, 1)["run_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < wait <= timedelta(hours=2)


def test_enqueue_reads_the_payload_from_standard_input(docyard: Docyard, on_server: str) -> None:
    # "docyard" restores the logs that a command sets up, also for this one.
    told = CliRunner().invoke(app, ["jobs", "enqueue", "charge", "-"], input='{"größe": "ä"}\n')
    assert (told.exit_code, told.stdout) == (0, "1\n")
    assert shown(docyard, 1)["payload"] == {"größe": "ä"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("charge", "{order: 7}"), "The payload is not JSON"),
        (("charge", ""), "The payload is not JSON"),
        (("charge", "[1]"), "is a JSON object, got list"),
        (("charge", "7"), "is a JSON object, got int"),
        (("charge", '{"a": NaN}'), "is not JSON"),
        (("charge", '{"a": "\\u0000"}'), "NUL"),
        (("charge", "[" * 100_000), "nested too deeply"),
        (("charge", '{"a": "' + "x" * 2_000_000 + '"}'), "the most is 1,048,576"),
        (("", "{}"), "kind is text, not empty"),
        (("charge", "{}", "--queue", "q" * 41), "1 to 40 bytes"),
        (("charge", "{}", "--max-attempts", 0), "max_attempts is at least 1"),
        (("charge", "{}", "--run-at", "2100-01-01"), "with its time zone"),
        (("charge", "{}", "--run-at", "tomorrow"), "with its time zone"),
        (("charge", "{}", "--run-at", "9999-12-31T23:59:59-12:00"), "with its time zone"),
        (("charge", "{}", "--in", "soon"), "such as 12h or 7d"),
        (("charge", "{}", "--in", "999999w"), "before the year 9999"),
        (("charge", "{}", "--in", "1h", "--run-at", "2100-01-01T00:00:00Z"), "Give one of them"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_a_job_is_wrong_use(
    docyard: Docyard, on_server: str, arguments: tuple[object, ...], expected: str
) -> None:
    ended = docyard("jobs", "enqueue", *arguments)
    assert ended.code == 2
    assert expected in " ".join(ended.err.replace("│", " ").split())
    assert docyard("jobs", "list", "--json").json == []
