"""No job stays ``running`` under a living worker, whatever goes wrong while its outcome is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.working import AT_ONCE, drain, running

from docyard_queue import NewJob, PostgresEngine, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database


class Faulty(PostgresEngine):
    """An engine whose verbs fail as often as one likes, before or after they were done."""

    def __init__(self, database: Database, **faults: list[BaseException | None]) -> None:
        super().__init__(database)
        self._faults = faults
        self.after = False

    def __getattribute__(self, name: str) -> Any:
        verb = super().__getattribute__(name)
        if name.startswith("_") or name not in (faults := self._faults):
            return verb

        async def faulty(*arguments: Any, **options: Any) -> Any:
            error = faults[name].pop(0) if faults[name] else None
            if error is not None and not self.after:
                raise error
            answer = await verb(*arguments, **options)
            if error is not None:
                raise error
            return answer

        return faulty


def a_registry(handler: Callable[..., Any] | None = None) -> Registry:
    async def nothing(attempt: Any, payload: Any) -> None: ...

    registry = Registry()
    registry.handler("work", max_attempts=3, backoff=AT_ONCE)(handler or nothing)
    return registry


@pytest.fixture(params=[False, True], ids=["it was not done", "the answer was lost"])
def after(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.fault(18)
async def test_a_completion_is_tried_until_it_is_written(database: Database, after: bool) -> None:
    engine = Faulty(database, complete=[psycopg.OperationalError(), psycopg.InterfaceError("closed")])
    engine.after = after
    await add(database, *[NewJob("work")] * 5)
    worker = await drain(database, a_registry(), engine=engine)
    assert worker.completed == 5
    assert await states(database) == ["completed"] * 5


@pytest.mark.fault(18)
async def test_a_failure_is_tried_until_it_is_written(database: Database, after: bool) -> None:
    async def fails(attempt: Any, payload: Any) -> None:
        raise ValueError

    engine = Faulty(database, settle=[psycopg.OperationalError("gone"), None, psycopg.errors.DiskFull()])
    engine.after = after
    [job_id] = await add(database)
    await drain(database, a_registry(fails), engine=engine)
    assert await state(database, job_id) == "dead"
    assert len(await attempts(database, job_id)) == 3


@pytest.mark.fault(1)
async def test_a_claim_whose_answer_was_lost_is_given_back_and_counts_no_attempt(database: Database) -> None:
    engine = Faulty(database, claim=[psycopg.OperationalError("gone")])
    engine.after = True
    ids = await add(database, *[NewJob("work", max_attempts=1)] * 3)
    async with running(database, a_registry(), engine=engine, heartbeat_seconds=0.2) as worker:
        await eventually(lambda: worker.completed == 3)
    assert await states(database) == ["completed"] * 3
    assert [(await row(database, job_id))["lease"] for job_id in ids] == [2, 2, 2]


@pytest.mark.fault(18)
async def test_one_completion_that_is_refused_does_not_fail_the_others(database: Database) -> None:
    # A constraint of the application's own on the table.
    await query(
        database,
        "ALTER TABLE docyard.procrastinate_jobs "
        "ADD CHECK (result IS NULL OR result <> '\"forbidden\"'::jsonb)",
    )

    async def handler(attempt: Any, payload: Any) -> Any:
        return payload.get("result")

    ids = await add(
        database, NewJob("work"), NewJob("work", {"result": "forbidden"}, max_attempts=1), NewJob("work")
    )
    worker = await drain(database, a_registry(handler))
    assert worker.completed == 2
    assert await states(database) == ["completed", "dead", "completed"]
    stored = await row(database, ids[1])
    assert stored["error_code"] == "finish_refused"
    assert "Postgres refused to write how the attempt ended" in stored["error_message"]


async def test_an_outcome_that_breaks_in_an_unforeseen_way_becomes_a_failure(database: Database) -> None:
    async def fails(attempt: Any, payload: Any) -> None:
        raise ValueError

    engine = Faulty(database, settle=[RuntimeError("a bug"), RuntimeError("again")])
    [job_id] = await add(database, NewJob("work", max_attempts=1))
    await drain(database, a_registry(fails), engine=engine)
    assert (await row(database, job_id))["error_code"] == "finish_refused"


async def test_a_stop_without_a_database_ends(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docyard_workers.process.attempts._RELEASE_SECONDS", 0.3)
    never = [psycopg.OperationalError("gone")] * 1000
    engine = Faulty(database, complete=never, release=never, release_strays=never)
    started = asyncio.Event()

    async def handler(attempt: Any, payload: Any) -> None:
        started.set()

    [job_id] = await add(database)
    async with asyncio.timeout(15):
        async with running(database, a_registry(handler), engine=engine, shutdown_seconds=0.2):
            await started.wait()
    assert await state(database, job_id) == "running", "rescue finds it: its worker is gone"
    await drain(database, a_registry())
    assert await state(database, job_id) == "completed"


async def test_rescue_and_claim_survive_errors_of_any_kind(database: Database) -> None:
    undefined = psycopg.errors.UndefinedTable("in the middle of a deploy")
    engine = Faulty(database, claim=[undefined, undefined], rescue=[undefined, undefined, undefined])
    await add(database)
    async with running(database, a_registry(), engine=engine, heartbeat_seconds=0.1) as worker:
        await eventually(lambda: worker.completed == 1)
        await query(
            database,
            "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, status, attempts, lease) "
            "VALUES ('default', 'work', 'doing', 1, 1)",
        )
        await eventually(lambda: worker.completed == 2)
