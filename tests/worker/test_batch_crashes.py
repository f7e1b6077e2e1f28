"""Batches and the end of their process: nothing is lost, nothing done twice, and only the guilty one pays."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, claim, query, rescue_all, row, state, states
from support.worker_app import many
from support.working import AT_ONCE, drain, running

from docyard_queue import Inspection, NewJob, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = pytest.mark.slow


def jobs(count: int, **payload: Any) -> list[NewJob]:
    return [NewJob("many", payload, queue="many") for _ in range(count)]


def a_registry(**options: Any) -> Registry:
    """The handler of the worker app, which a child finds by its name."""
    own = Registry()
    options = {"queue": "many", "size": 64, "max_attempts": 2, "backoff": AT_ONCE} | options
    own.batch_handler("many", **options)(many)
    return own


async def alone(database: Database, *wanted: NewJob) -> list[int]:
    """Jobs that were in a worker which is gone, and must run alone."""
    ids = await add(database, *wanted)
    assert len(await claim(database, 100, worker=99, kinds={"many": 2})) == len(ids)
    await rescue_all(database)
    assert {(await row(database, job_id))["alone"] for job_id in ids} == {True}
    return ids


async def test_a_killed_worker_loses_nothing_and_doubles_nothing(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    ids = await add(database, *jobs(30, seconds=0.05))
    first = start(url)
    await eventually(lambda: has_begun(database))
    first.kill()
    heir = start(url)
    await eventually(lambda: all_completed(database), seconds=30)
    assert [job_id for job_id, _ in await effects()] == ids, "each exactly once"
    assert {(await row(database, job_id))["attempts"] for job_id in ids} == {1}, "nobody is blamed"
    assert heir.stop() == 0


async def test_a_poison_in_a_batch_is_found_by_halving(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    innocents = await add(database, *jobs(9))
    [poison] = await add(database, *jobs(1, do="exit"))
    innocents += await add(database, *jobs(6))
    first = start(url)
    await eventually(first.ended)
    second = start(url)
    await eventually(lambda: none_waits(database), seconds=40)
    assert not second.ended(), "only children died"
    for job_id in innocents:
        assert (await row(database, job_id))["attempts"] == 1
        assert await story(database, job_id) == ["released", "completed"]
    assert await story(database, poison) == ["released", "crashed", "crashed"]
    stored = await row(database, poison)
    assert (stored["status"], stored["error_code"], stored["attempts"]) == ("failed", "crashed", 2)
    traces = await effects()
    assert [job_id for job_id, _ in traces] == innocents, "each exactly once"
    assert len({pid for _, pid in traces}) <= math.ceil(math.log2(16)), "most ran together"
    assert second.stop() == 0


async def test_jobs_that_must_run_alone_run_together_in_one_child(
    database: Database, effects: Callable[[], Any]
) -> None:
    ids = await alone(database, *jobs(12))
    worker = await drain(database, a_registry())
    assert worker.completed == 12
    assert [job_id for job_id, _ in await effects()] == ids
    assert len({pid for _, pid in await effects()}) == 1
    assert {(await row(database, job_id))["attempts"] for job_id in ids} == {1}


async def test_what_a_child_settles_is_written_as_it_says(
    database: Database, effects: Callable[[], Any]
) -> None:
    ids = await alone(database, *jobs(2), *jobs(1, do="settle"))
    worker = await drain(database, a_registry(max_attempts=1))
    assert (worker.completed, worker.failed) == (2, 1)
    assert await states(database) == ["completed", "completed", "dead"]
    assert (await row(database, ids[2]))["error_message"] == "as it was told"


async def test_one_that_hangs_is_found_as_one_that_crashes_is(
    database: Database, effects: Callable[[], Any]
) -> None:
    *innocents, hung = await alone(database, *jobs(3), *jobs(1, do="hang"))
    await drain(database, a_registry(timeout=timedelta(seconds=1)))
    assert await states(database) == ["completed"] * 3 + ["dead"]
    assert (await row(database, hung))["error_code"] == "timeout"
    assert {(await row(database, job_id))["attempts"] for job_id in innocents} == {1}


async def test_a_second_end_of_the_worker_blames_nobody_of_a_group(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    ids = await alone(database, *jobs(6, seconds=0.3))
    first = start(url)
    await eventually(lambda: began(database, ids, "began_alone < 0"), seconds=20)
    first.kill()
    heir = start(url)
    await eventually(lambda: all_completed(database), seconds=40)
    assert {(await row(database, job_id))["attempts"] for job_id in ids} == {1}
    assert await began(database, ids, "began_alone > 0"), "then each had a child of its own"
    assert [job_id for job_id, _ in await effects()] == ids
    assert heir.stop() == 0


async def test_a_group_in_a_child_can_be_stopped_and_its_members_cancelled(
    database: Database, effects: Callable[[], Any]
) -> None:
    ids = await alone(database, *jobs(3, seconds=20))
    async with running(database, a_registry(), shutdown_seconds=0.1):
        await eventually(lambda: began(database, ids, "began_alone < 0"))
        await Inspection(database).cancel([ids[1]])
        await eventually(lambda: is_in(database, ids[1], "cancelled"))
    assert await states(database) == ["available", "cancelled", "available"]
    assert [(await row(database, job_id))["attempts"] for job_id in ids] == [0, 1, 0]


async def test_what_no_child_can_find_runs_one_by_one_with_nothing_beside_it(database: Database) -> None:
    own, calls = Registry(), []

    @own.batch_handler("many", queue="many", size=64)
    async def nameless(batch: Any, payloads: Any) -> None:
        calls.append(len(batch))

    ids = await alone(database, *jobs(3))
    worker = await drain(database, own)
    assert (worker.completed, calls) == (3, [1, 1, 1])
    assert await began(database, ids, "began_alone > 0")


async def story(database: Database, job_id: int) -> list[str]:
    return [told["outcome"] for told in await attempts(database, job_id)]


async def has_begun(database: Database) -> bool:
    return "running" in await states(database)


async def all_completed(database: Database) -> bool:
    return {*await states(database)} == {"completed"}


async def none_waits(database: Database) -> bool:
    return not {"running", "available", "retryable"} & {*await states(database)}


async def is_in(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted


async def began(database: Database, ids: list[int], how: str) -> bool:
    found = await query(
        database, f"SELECT id FROM docyard.procrastinate_jobs WHERE id = ANY (%s) AND {how}", ids
    )
    return len(found) == len(ids)
