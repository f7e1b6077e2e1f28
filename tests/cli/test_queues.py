from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from docyard_queue import NewJob, enqueue

if TYPE_CHECKING:
    from cli.conftest import Docyard


def test_a_queue_is_paused_with_a_reason_and_resumed(docyard: Docyard, on_server: str) -> None:
    with psycopg.connect(on_server) as connection:
        enqueue(connection, NewJob("charge", queue="billing"))
    assert docyard("queues", "pause", "billing", "--reason", "the bank is closed").code == 0
    [queue] = docyard("queues", "list", "--json").json
    assert (queue["name"], queue["available"], queue["paused"]) == ("billing", 1, True)
    assert "the bank is closed" in docyard("queues", "list").out
    ended = docyard("queues", "resume", "billing")
    assert (ended.code, ended.out) == (0, "Queue billing goes on.\n")
    again = docyard("queues", "resume", "billing", "--json")
    assert (again.code, again.json) == (0, {"queue": "billing", "paused": False, "changed": False})


def test_without_queues_there_is_a_note(docyard: Docyard, on_server: str) -> None:
    ended = docyard("queues", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "No queues yet." in ended.err


def test_a_name_that_is_too_long_is_wrong_use(docyard: Docyard, on_server: str) -> None:
    ended = docyard("queues", "pause", "q" * 41)
    assert ended.code == 2
    assert "1 to 40 bytes" in ended.err


def test_limits_are_set_shown_and_removed(docyard: Docyard, on_server: str) -> None:
    ended = docyard("queues", "limit", "embed", "--concurrency", "4", "--rate", "100/1m", "--depth", "5000")
    assert (ended.code, ended.out) == (0, "Queue embed: 4 at once, rate 100/1m, 5,000 may wait.\n")
    ended = docyard("queues", "limit", "embed", "--per-key", "1", "--rate", "none")
    assert ended.out == "Queue embed: 4 at once, 1 of a key at once, 5,000 may wait.\n"
    assert docyard("queues", "limit", "embed", "--json").json["key_concurrency"] == 1
    assert docyard("queues", "limit", "embed", "--none").out == "Queue embed has no limits.\n"


def test_a_limit_that_cannot_be_read_is_wrong_use(docyard: Docyard, on_server: str) -> None:
    for option, value in (("--concurrency", "many"), ("--rate", "100"), ("--rate", "0/1m"), ("--depth", "0")):
        ended = docyard("queues", "limit", "embed", option, value)
        assert ended.code == 2, (option, value, ended.err)
    assert "such as 100/1m" in docyard("queues", "limit", "embed", "--rate", "fast").err


def test_budgets_are_set_listed_and_removed(docyard: Docyard, on_server: str) -> None:
    assert docyard("budgets", "set", "openai", "tokens", "1000/1m").out == "Budget openai: tokens 1000/1m.\n"
    [budget] = docyard("budgets", "list", "--json").json
    assert (budget["name"], budget["unit"], budget["amount"], budget["remaining"]) == (
        "openai", "tokens", 1000, 1000,
    )  # fmt: skip
    assert docyard("budgets", "remove", "openai").out == "Budget openai is gone: tokens.\n"
    assert docyard("budgets", "remove", "openai").code == 1
