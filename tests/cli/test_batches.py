from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from conftest import opened

from docyard_queue import NewJob, create_batch, enqueue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from cli.conftest import Docyard, Running


@pytest.fixture
def batch(on_server: str) -> UUID:
    """Two jobs of a kind of one's own, with a callback."""

    async def make() -> UUID:
        async with opened(on_server) as database:
            return await create_batch(database, "invoices [of May]", NewJob("report"))

    made = asyncio.run(make())
    with psycopg.connect(on_server) as connection:
        for _ in range(2):
            enqueue(connection, NewJob("[red]charge", batch_id=made))
    return made


def shown(docyard: Docyard, batch: UUID) -> dict[str, Any]:
    found: dict[str, Any] = docyard("batches", "show", batch, "--json").json
    return found


def test_list_shows_each_batch_with_its_counts(docyard: Docyard, batch: UUID) -> None:
    ended = docyard("batches", "list")
    assert ended.code == 0
    header, row = ended.out.splitlines()
    assert header.split()[:4] == ["id", "state", "total", "waiting"]
    assert row.split()[:4] == [str(batch), "running", "2", "2"]
    assert "invoices [of May]" in row
    [told] = docyard("batches", "list", "--json").json
    assert (told["batch_id"], told["label"], told["waiting"]) == (str(batch), "invoices [of May]", 2)


def test_list_of_nothing_is_no_failure(docyard: Docyard, on_server: str) -> None:
    ended = docyard("batches", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "No batches." in ended.err


def test_pause_and_resume_say_what_they_did_as_json(docyard: Docyard, batch: UUID) -> None:
    assert docyard("batches", "pause", batch, "--json").json == {"batch_id": str(batch), "paused": True}
    assert docyard("batches", "resume", batch, "--json").json == {"batch_id": str(batch), "paused": False}


def test_pause_and_resume_change_the_state(docyard: Docyard, batch: UUID) -> None:
    assert docyard("batches", "pause", batch).out == "Paused.\n"
    assert shown(docyard, batch)["state"] == "paused"
    assert docyard("batches", "resume", batch).out == "Resumed.\n"
    assert shown(docyard, batch)["state"] == "running"


def test_a_paused_batch_is_not_worked_on(docyard: Docyard, library: Path, on_server: str) -> None:
    said = docyard("ingest", library / "whales.md").out
    batch = said.split()[-1].rstrip(".")
    docyard("batches", "pause", batch)
    assert docyard("ingest", library / "tides.txt", "--work", "-q").code == 0
    assert docyard("batches", "show", batch, "--json").json["waiting"] == 1


def test_cancel_tells_how_many_jobs_it_ended(docyard: Docyard, batch: UUID) -> None:
    assert docyard("batches", "cancel", batch).out == "2 jobs cancelled.\n"
    told = shown(docyard, batch)
    assert (told["state"], told["cancelled"]) == ("cancelled", 2)
    assert told["callback_job_id"] is not None
    assert docyard("batches", "cancel", batch, "--json").json == {"cancelled": 0, "asked_to_stop": 0}


def test_watch_of_an_ended_batch_shows_it(docyard: Docyard, batch: UUID) -> None:
    docyard("batches", "cancel", batch)
    ended = docyard("batches", "watch", batch)
    assert ended.code == 0
    assert "cancelled" in ended.out


def test_watch_fails_when_jobs_are_dead(docyard: Docyard, library: Path, on_server: str) -> None:
    batch = docyard("ingest", library / "picture.xyz", "--work", "--json").json["batch_id"]
    ended = docyard("batches", "watch", batch)
    assert ended.code == 1
    assert "1 failed of 1" in ended.out


def test_watch_waits_for_the_end(docyard: Docyard, batch: UUID, spawn: Callable[..., Running]) -> None:
    docyard("batches", "pause", batch)
    watching = spawn("batches", "watch", batch)
    while "It is paused" not in watching.said:
        assert watching.process.poll() is None, watching.said
    docyard("batches", "cancel", batch)
    ended = watching.end()
    assert ended.code == 0
    assert "cancelled" in ended.out


@pytest.mark.parametrize("command", ["show", "watch", "pause", "resume", "cancel"])
def test_an_unknown_batch_is_a_failure(docyard: Docyard, on_server: str, command: str) -> None:
    ended = docyard("batches", command, uuid4())
    assert ended.code == 1
    assert "There is no batch" in ended.err
    assert "docyard batches list" in ended.err


def test_bars_show_kinds_as_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    from docyard.batch import KindProgress
    from docyard.cli.progress import Bars

    with Bars() as bars:
        bars.update({"[red]charge": KindProgress(total=2, ended=1), "embed": KindProgress(total=1)})
    said = capsys.readouterr().err
    assert said.index("Embedding") < said.index("[red]charge")
