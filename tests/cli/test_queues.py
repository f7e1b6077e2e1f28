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
