"""A vanilla procrastinate application in another process feeds our workers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo
from support.queueing import claim, query, row, state, states
from support.working import drain

from docyard_queue import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from docyard_schema import Database

# Nothing of docyard in it: only procrastinate, its connectors, and the search path that it needs.
APPLICATION = """
import asyncio, os, sys
import procrastinate

conninfo = os.environ["APPLICATION_DATABASE"]
connector = procrastinate.SyncPsycopgConnector if "sync" in sys.argv[1:] else procrastinate.PsycopgConnector
app = procrastinate.App(connector=connector(conninfo=conninfo))

@app.task(name="greet", queue="greetings")
def greet(name):
    raise AssertionError("it is not run here")

@app.periodic(cron="* * * * *")
@app.task(name="tick", queue="greetings", pass_context=False)
def tick(timestamp):
    pass

def sync():
    with app.open():
        print(greet.defer(name="sync"))
        configured = greet.configure(schedule_in={"hours": 1}, priority=7, lock="l", queueing_lock="q")
        print(configured.defer(name="later"))
        print(*greet.batch_defer({"name": "one"}, {"name": "two"}))
        try:
            greet.configure(queueing_lock="q").defer(name="again")
        except procrastinate.exceptions.AlreadyEnqueued:
            print("AlreadyEnqueued")

async def asynchronous():
    async with app.open_async():
        print(await greet.defer_async(name="async"))
        configured = greet.configure(schedule_in={"hours": 1}, priority=7, lock="l", queueing_lock="q")
        print(await configured.defer_async(name="later"))
        print(*await greet.batch_defer_async({"name": "one"}, {"name": "two"}))
        try:
            await greet.configure(queueing_lock="q").defer_async(name="again")
        except procrastinate.exceptions.AlreadyEnqueued:
            print("AlreadyEnqueued")

async def worker():
    async with app.open_async():
        await app.run_worker_async(wait=False)

if __name__ == "__main__":
    if "sync" in sys.argv[1:]:
        sync()
    else:
        asyncio.run(worker() if "worker" in sys.argv[1:] else asynchronous())
"""


class Application:
    def __init__(self, folder: Path, url: str) -> None:
        (folder / "application.py").write_text(APPLICATION)
        self._folder = folder
        conninfo = make_conninfo(url, options="-c search_path=public,docyard")
        self._environment = os.environ | {"APPLICATION_DATABASE": conninfo, "PYTHONPATH": str(folder)}

    async def run(self, *arguments: str, succeeds: bool = True) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, *arguments], cwd=self._folder, env=self._environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        said = str(done.stdout + done.stderr)
        assert (done.returncode == 0) == succeeds, said
        return said


@pytest.fixture
def application(tmp_path: Path, url: str) -> Application:
    return Application(tmp_path, url)


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_its_defers_are_run_by_our_worker(
    database: Database, application: Application, colour: str
) -> None:
    said = (await application.run("application.py", colour)).split()[:5]
    assert said == ["1", "2", "3", "4", "AlreadyEnqueued"]
    later = await row(database, 2)
    assert (later["priority"], later["lock"], later["queueing_lock"]) == (7, "l", "q")
    assert (
        timedelta(minutes=59) < later["scheduled_at"] - later["created_at"] <= timedelta(hours=1, seconds=5)
    )
    assert await state(database, 2) == "scheduled"

    registry, greeted = Registry(), []

    @registry.handler("greet", max_attempts=4)
    async def greet(attempt: Any, payload: Any) -> str:
        greeted.append(payload["name"])
        return "hello"

    worker = await drain(database, registry)
    assert worker.completed == 3
    assert sorted(greeted) == sorted([colour, "one", "two"])
    assert await states(database) == ["completed", "scheduled", "completed", "completed"]
    done = await row(database, 1)
    assert (done["max_attempts"], done["result"], done["attempts"]) == (4, "hello", 1)


async def test_its_own_worker_is_refused_with_the_way_out(
    database: Database, application: Application
) -> None:
    await application.run("application.py", "async")
    said = await application.run("application.py", "worker", succeeds=False)
    assert "These jobs are run by docyard's workers, not by procrastinate's." in said
    assert "docyard worker --app" in said
    assert "doing" not in [
        found["status"]
        for found in await query(database, "SELECT status::text FROM docyard.procrastinate_jobs")
    ]


async def test_its_periodic_function_defers_each_tick_once(database: Database) -> None:
    statement = (
        "SELECT docyard.procrastinate_defer_periodic_job_v2('q', NULL, NULL, 'tick', 0, '', %s, %s) AS id"
    )
    ticks = [await query(database, statement, moment, "{}") for moment in (60, 60, 120)]
    assert [tick[0]["id"] for tick in ticks] == [1, None, 2]
    assert [job.id for job in await claim(database, kinds={"tick": 1})] == [1, 2]
