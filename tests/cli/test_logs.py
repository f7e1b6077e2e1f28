from __future__ import annotations

import json
import logging

import pytest
import structlog

from docyard.logs import configure

pytestmark = pytest.mark.usefixtures("docyard")  # puts logging back


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_elsewhere_than_on_a_terminal_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger("x").info("job.died", job_id=7)
    (line,) = _lines(capsys)
    assert list(line) == ["timestamp", "level", "event", "job_id"]
    assert (line["level"], line["event"], line["job_id"]) == ("info", "job.died", 7)


def test_passwords_are_masked_wherever_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger("x").info("a.b", url="postgresql://a:hush@b/c", api_key="hush")
    logging.getLogger("library").warning("connecting to postgresql://a:hush@b/c")
    assert "hush" not in capsys.readouterr().err


def test_a_library_s_message_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("psycopg.pool").warning("error %s", "x")
    logging.getLogger("psycopg.pool").info("not worth a line")
    (line,) = _lines(capsys)
    assert (line["event"], line["library"], line["message"]) == ("library.logged", "psycopg.pool", "error x")


def test_a_level_leaves_out_what_is_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning")
    structlog.get_logger("x").info("a.b")
    structlog.get_logger("x").warning("c.d")
    assert [line["event"] for line in _lines(capsys)] == ["c.d"]


def test_behind_a_progress_bar_only_the_first_job_events_show(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", few_job_events=2)
    for number in range(5):
        structlog.get_logger("x").error("job.died", job_id=number)
    structlog.get_logger("x").error("claim.failed")
    assert [line["event"] for line in _lines(capsys)] == ["job.died", "job.died", "claim.failed"]


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    structlog.get_logger("x").info("job.died", job_id=7)
    said = capsys.readouterr().err
    assert "job.died" in said
    assert "job_id=7" in said
    assert "\x1b" not in said
