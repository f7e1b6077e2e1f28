from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from conftest import opened

from docyard.cli.working import load_registry
from docyard_queue.schedules import fire_due

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard

APPLICATION = """
import procrastinate, procrastinate.testing
from docyard_queue import Registry

registry = Registry()

@registry.schedule("nightly", cron="0 3 * * *", timezone="Europe/Berlin", payload={"depth": 2}, queue="night",
                   priority=4, unique_key="nightly")
async def nightly(attempt, payload): ...

@registry.schedule("secondly", cron="* * * * * *")
async def secondly(attempt, payload): ...

app = procrastinate.App(connector=procrastinate.testing.InMemoryConnector())

@app.periodic(cron="0 * * * *", periodic_id="one")
@app.periodic(cron="30 * * * *", periodic_id="two")
@app.task(name="tick")
def tick(timestamp): ...

theirs = Registry.from_procrastinate(app)
empty = Registry()
"""


@pytest.fixture
def app(on_server: str, tmp_path: Path) -> str:
    """A module of one's own in the current folder."""
    name = f"schedules_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(APPLICATION)
    return name


def fire(url: str, target: str) -> int:
    """What a worker does when a moment comes; how many jobs it made."""

    async def work() -> int:
        async with opened(url) as database:
            return len((await fire_due(database, load_registry(target).schedules))[0])

    return asyncio.run(work())


def test_list_shows_what_the_code_says_and_when_it_fires_next(docyard: Docyard, app: str) -> None:
    nightly, secondly = docyard("schedules", "list", "--app", f"{app}:registry", "--json").json
    assert (nightly["name"], nightly["cron"], nightly["timezone"]) == (
        "nightly", "0 3 * * *", "Europe/Berlin",
    )  # fmt: skip
    assert (nightly["kind"], nightly["queue"]) == ("nightly", "night")
    assert (nightly["last_moment"], nightly["last_job_id"]) == (None, None)
    coming = datetime.fromisoformat(nightly["next_moment"])
    assert (coming.hour, coming.minute) == (3, 0)
    assert timedelta(0) < coming - datetime.now(UTC) <= timedelta(hours=25)
    assert secondly["name"] == "secondly"
    lines = docyard("schedules", "list", "--app", f"{app}:registry").out.splitlines()
    assert lines[0].split() == ["schedule", "cron", "timezone", "kind", "queue", "last", "job", "next"]
    assert lines[1].startswith("nightly")


def test_without_the_code_there_is_what_the_database_knows(
    docyard: Docyard, app: str, on_server: str
) -> None:
    ended = docyard("schedules", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "No schedules." in ended.err
    while not fire(on_server, f"{app}:registry"):
        pass
    ended = docyard("schedules", "list")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["schedule", "nightly", "secondly"]
    assert "--app MODULE:REGISTRY" in ended.err
    nightly, secondly = docyard("schedules", "list", "--json").json
    assert (nightly["cron"], nightly["next_moment"], nightly["last_job_id"]) == (None, None, None)
    assert secondly["last_job_id"] == docyard("jobs", "list", "--json").json[0]["id"]
    assert datetime.now(UTC) - datetime.fromisoformat(secondly["last_moment"]) < timedelta(minutes=1)
    # With another application's code they are still told of, after its own.
    found = docyard("schedules", "list", "--app", f"{app}:theirs", "--json").json
    assert [row["name"] for row in found] == ["tick", "tick", "nightly", "secondly"]
    assert [row["periodic_id"] for row in found[:2]] == ["two", "one"]
    assert "tick (one)" in docyard("schedules", "list", "--app", f"{app}:theirs").out


def test_run_enqueues_one_now_as_a_moment_would(docyard: Docyard, app: str) -> None:
    ended = docyard("schedules", "run", "nightly", "--app", f"{app}:registry")
    assert ended.code == 0
    job = docyard("jobs", "show", ended.out.strip(), "--json").json
    assert (job["kind"], job["queue"], job["priority"], job["unique_key"], job["state"]) == (
        "nightly", "night", 4, "nightly", "available",
    )  # fmt: skip
    assert job["payload"]["depth"] == 2
    fired = datetime.fromisoformat(job["payload"]["fire_time"])
    assert fired.utcoffset() in (timedelta(hours=1), timedelta(hours=2))
    assert abs(datetime.now(UTC) - fired) < timedelta(minutes=1)
    # Its unique key holds, and its own moments are as they were.
    again = docyard("schedules", "run", "nightly", "--app", f"{app}:registry", "--json")
    assert again.json == {"id": job["id"]}
    assert docyard("schedules", "list", "--json").json == []


def test_run_tells_tasks_of_one_name_apart(docyard: Docyard, app: str) -> None:
    ended = docyard("schedules", "run", "tick", "--app", f"{app}:theirs")
    assert ended.code == 2
    assert "'one'" in ended.err
    ended = docyard("schedules", "run", "tick", "--app", f"{app}:theirs", "--periodic-id", "two")
    job = docyard("jobs", "show", ended.out.strip(), "--json").json
    assert abs(datetime.now(UTC).timestamp() - job["payload"]["timestamp"]) < 60


def test_run_of_an_unknown_schedule_names_the_known_ones(docyard: Docyard, app: str) -> None:
    ended = docyard("schedules", "run", "daily", "--app", f"{app}:registry")
    assert ended.code == 1
    assert "There is no schedule 'daily'." in ended.err
    assert "nightly, secondly" in ended.err
    assert "The registry has: none." in docyard("schedules", "run", "daily", "--app", f"{app}:empty").err


def test_run_needs_the_code(docyard: Docyard, on_server: str) -> None:
    assert docyard("schedules", "run", "nightly").code == 2
    ended = docyard("schedules", "run", "nightly", "--app", "not_there:registry")
    assert ended.code == 2
    assert "there is no module 'not_there'" in ended.err
