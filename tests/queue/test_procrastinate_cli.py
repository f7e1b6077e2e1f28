"""The command line of procrastinate, as a process of its own, on docyard's schema."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.queueing import add, claim, claim_one, query, row, state, states
from support.working import drain

from docyard_queue import NewJob, PostgresEngine, Registry
from docyard_queue.outcomes import Failure
from docyard_schema.migrations import find_drift, load_steps, snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from docyard_schema import Database

APPLICATION = """
import os
import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["APPLICATION_DATABASE"]))

@app.task(name="greet", queue="greetings")
def greet(name):
    raise AssertionError("it is not run here")
"""
DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)


class CommandLine:
    """``procrastinate --app=…`` with the search path that the documentation names."""

    def __init__(self, folder: Path, url: str, path: str = "public, docyard") -> None:
        (folder / "application.py").write_text(APPLICATION)
        conninfo = make_conninfo(url, options=f"-c search_path={path.replace(' ', '')}")
        self._folder = folder
        self._environment = os.environ | {"APPLICATION_DATABASE": conninfo, "PYTHONPATH": str(folder)}

    async def __call__(self, *arguments: object, fails: bool = False, typed: str | None = None) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "procrastinate", "--app=application.app", *map(str, arguments)],
            cwd=self._folder, env=self._environment, input=typed, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        said = str(done.stdout + done.stderr)
        assert (done.returncode != 0) == fails, said
        return said


@pytest.fixture
def procrastinate(tmp_path: Path, url: str) -> CommandLine:
    return CommandLine(tmp_path, url)


@pytest.fixture
async def shop(url: str, database: Database) -> AsyncIterator[str]:
    """The conninfo of a user who may read and write rows and has the search path by itself."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        role = f"shop_{connection.info.dbname}"
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"ALTER ROLE {role} SET search_path = public, docyard",
            f"GRANT USAGE ON SCHEMA docyard TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA docyard TO {role}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA docyard TO {role}",
        ):
            await connection.execute(statement.encode())
        yield make_conninfo(url, user=role)
        await connection.execute(f"DROP OWNED BY {role}".encode())
        await connection.execute(f"DROP ROLE {role}".encode())


async def test_it_finds_the_schema_healthy(database: Database, procrastinate: CommandLine) -> None:
    said = await procrastinate("healthchecks")
    assert "DB connection: OK" in said
    assert "Found procrastinate_jobs table: OK" in said


async def test_without_the_search_path_it_says_that_it_finds_no_table(
    database: Database, tmp_path: Path, url: str
) -> None:
    said = await CommandLine(tmp_path, url, path="public")("healthchecks", fails=True)
    assert "procrastinate_jobs table was not found" in said


async def test_what_it_defers_is_run_by_docyards_worker(
    database: Database, procrastinate: CommandLine
) -> None:
    await procrastinate("defer", "greet", '{"name": "from the shell"}')
    await procrastinate("defer", "--unknown", "charge", '{"order": 7}', "--queue=billing", "--priority=3")
    registry, seen = Registry(), []

    @registry.handler("greet")
    @registry.handler("charge")
    async def handle(attempt: Any, payload: Any) -> None:
        seen.append((attempt.job.kind, attempt.job.queue, attempt.job.priority, payload))

    await drain(database, registry)
    assert sorted(seen) == [
        ("charge", "billing", 3, {"order": 7}),
        ("greet", "greetings", 0, {"name": "from the shell"}),
    ]
    assert await states(database) == ["completed", "completed"]


async def test_it_defers_for_later_and_with_locks(database: Database, procrastinate: CommandLine) -> None:
    options = ("--in=3600", "--lock=l", "--queueing-lock=k")
    await procrastinate("defer", "greet", "{}", *options)
    later = await row(database, 1)
    assert (later["lock"], later["queueing_lock"]) == ("l", "k")
    assert timedelta(minutes=59) < later["scheduled_at"] - datetime.now(UTC) <= timedelta(hours=1)
    assert await state(database, 1) == "scheduled"
    assert "already a job in the queue" in await procrastinate("defer", "greet", "{}", *options, fails=True)
    await procrastinate("defer", "greet", "{}", *options, "--ignore-already-enqueued")
    # The key is the one of docyard's own producers.
    assert await add(database, unique_key="k") == [1]
    assert len(await states(database)) == 1


async def test_its_worker_is_refused_and_takes_nothing(
    database: Database, procrastinate: CommandLine
) -> None:
    await procrastinate("defer", "greet", '{"name": "x"}')
    said = await procrastinate("worker", "--one-shot", fails=True)
    assert "These jobs are run by docyard's workers, not by procrastinate's." in said
    assert "docyard worker --app" in said
    assert await states(database) == ["available"]
    assert await query(database, "SELECT id FROM docyard.procrastinate_workers") == []


async def test_its_shell_lists_jobs_queues_tasks_and_locks(
    database: Database, procrastinate: CommandLine
) -> None:
    await PostgresEngine(database).complete([(await claim_one(database), None)])
    await add(database, NewJob("work", {"a": 1}, queue="other", lock_key="l", priority=2))
    said = await procrastinate(
        "shell", typed="list_jobs details\nlist_queues\nlist_tasks\nlist_locks\nexit\n"
    )
    assert "#1 work on default - [succeeded]" in said
    assert "#2 work on other - [todo] (attempts=0, priority=2" in said
    assert "other: 1 jobs (todo: 1" in said
    assert "work: 2 jobs (todo: 1, doing: 0, succeeded: 1" in said
    assert "l: 1 jobs (todo: 1" in said
    assert "Traceback" not in said


async def test_its_shell_retries_a_dead_job_with_all_its_attempts(
    database: Database, procrastinate: CommandLine
) -> None:
    job = await claim_one(database, max_attempts=1)
    await PostgresEngine(database).settle(job, DEATH)
    assert f"#{job.id} work on default - [todo]" in await procrastinate("shell", "retry", job.id)
    [again] = await claim(database)
    assert (again.id, again.attempt, again.lease) == (job.id, 1, job.lease + 1)


async def test_its_shell_does_not_tear_a_running_job_away(
    database: Database, procrastinate: CommandLine
) -> None:
    [worker] = await query(
        database,
        "INSERT INTO docyard.procrastinate_workers (last_heartbeat, heartbeat_seconds) "
        "VALUES (now(), 3600) RETURNING id",
    )
    await add(database)
    [job] = await claim(database, worker=worker["id"])
    said = await procrastinate("shell", "retry", job.id)
    assert f"Job {job.id} is running, and its worker lives." in said
    assert "docyard jobs cancel" in said
    await procrastinate("shell", "cancel", job.id)
    assert await PostgresEngine(database).complete([(job, None)]) == []


async def test_its_shell_cancels_with_the_time_of_the_end(
    database: Database, procrastinate: CommandLine
) -> None:
    [job_id] = await add(database)
    assert "[cancelled]" in await procrastinate("shell", "cancel", job_id)
    assert (await row(database, job_id))["finished_at"] is not None
    assert await states(database) == ["cancelled"]


async def test_a_user_with_rights_on_rows_alone_can_do_all_that(
    database: Database, tmp_path: Path, shop: str
) -> None:
    procrastinate = CommandLine(tmp_path, shop)
    await procrastinate("healthchecks")
    await procrastinate("defer", "greet", '{"name": "x"}')
    await procrastinate("shell", "cancel", 1)
    assert await states(database) == ["cancelled"]


async def test_its_schema_is_read_and_not_applied_over_docyards(
    database: Database, tmp_path: Path, shop: str
) -> None:
    procrastinate = CommandLine(tmp_path, shop)
    assert "CREATE TABLE procrastinate_jobs" in await procrastinate("schema", "--read")
    # Who may not create in public makes no second set of tables there, and docyard's are passed over.
    assert "permission denied for schema public" in await procrastinate("schema", "--apply", fails=True)
    async with database.dedicated() as connection:
        assert await snapshot(connection, "public") == {}
        assert await find_drift(connection, database.namespace, to=len(load_steps())) == []
