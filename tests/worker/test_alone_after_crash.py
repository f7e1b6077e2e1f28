"""A worker died with several jobs: each runs alone, and only the guilty one pays."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, claim, query, rescue_all, row, state, states
from support.worker_app import registry
from support.working import drain, running

from docyard_queue import NewJob, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = pytest.mark.slow


class Fleet:
    """One worker after the other: when one dies the next is started."""

    def __init__(self, start: Callable[..., Any], url: str) -> None:
        self.workers = [start(url)]
        self._start = lambda: start(url)

    async def settle(self, database: Database) -> None:
        async def settled() -> bool:
            if self.workers[-1].ended():
                self.workers.append(self._start())
            return not {"running", "available", "retryable"} & set(await states(database))

        await eventually(settled, seconds=40)


async def story(database: Database, job_id: int) -> list[str]:
    return [told["outcome"] for told in await attempts(database, job_id)]


async def test_one_poison_among_nine_innocents_burns_alone(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    innocents = await add(database, *[NewJob("effect", {"seconds": 0.5}) for _ in range(9)])
    [poison] = await add(database, NewJob("die"))
    fleet = Fleet(lambda url: start(url, concurrency=10), url)
    await fleet.settle(database)
    assert len(fleet.workers) == 2, "it took one worker with it, and then only its own child"
    for job_id in innocents:
        stored = await row(database, job_id)
        assert (stored["status"], stored["attempts"]) == ("succeeded", 1)
        assert await story(database, job_id) == ["released", "completed"]
    stored = await row(database, poison)
    assert (stored["status"], stored["error_code"]) == ("failed", "crashed")
    assert stored["attempts"] == stored["max_attempts"] == 2
    assert await story(database, poison) == ["released", "crashed", "crashed"]
    assert [job_id for job_id, _ in await effects()] == innocents, "each exactly once"
    assert fleet.workers[-1].stop() == 0


async def test_what_no_child_can_import_runs_with_nothing_beside_it(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    innocents = await add(database, *[NewJob("effect", {"seconds": 0.5}) for _ in range(4)])
    [poison] = await add(database, NewJob("nameless_die"))
    fleet = Fleet(start, url)
    await fleet.settle(database)
    assert len(fleet.workers) == 4, "its worker died three times: once beside others, twice alone"
    assert await story(database, poison) == ["released", "crashed", "crashed"]
    stored = await row(database, poison)
    assert (stored["status"], stored["error_code"], stored["attempts"]) == ("failed", "crashed", 2)
    assert [(await row(database, job_id))["attempts"] for job_id in innocents] == [1] * 4
    assert [job_id for job_id, _ in await effects()] == innocents


async def test_nothing_begins_beside_one_that_has_the_process_for_itself(database: Database) -> None:
    own, beside, most = Registry(), 0, {"alone": 0, "usual": 0}

    @own.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        nonlocal beside
        beside += 1
        await asyncio.sleep(0.05)
        name = "alone" if attempt.job.alone else "usual"
        most[name] = max(most[name], beside)
        beside -= 1

    marked = await add(database, *[NewJob("work") for _ in range(3)])
    await claim(database)
    await rescue_all(database)
    usual = await add(database, *[NewJob("work", priority=index % 2) for index in range(8)])
    worker = await drain(database, own, concurrency=5)
    assert worker.completed == len(marked) + len(usual)
    assert most["alone"] == 1
    assert most["usual"] > 1, "before and after it all goes on as usual"
    assert {(await row(database, job_id))["attempts"] for job_id in marked} == {1}


async def test_the_mark_stays_while_the_job_fails_and_is_of_no_meaning_after_its_end(
    database: Database,
) -> None:
    own, seen = Registry(), []

    @own.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        seen.append(attempt.job.alone)
        if len(seen) < 2:
            raise ValueError("once more")

    [job_id, other] = await add(database, NewJob("work"), NewJob("work"))
    await claim(database)
    await rescue_all(database)
    await query(database, "DELETE FROM docyard.procrastinate_jobs WHERE id = %s", other)
    await drain(database, own)
    assert seen == [True, True]
    assert await state(database, job_id) == "completed"


async def test_the_child_of_a_stopped_worker_cannot_commit_what_another_has_taken(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    zombie = start(url, scope="machine a")
    [job_id] = await add(database, NewJob("isolated", {"do": "sleep", "seconds": 2, "commit": "once"}))
    await eventually(lambda: has_begun(database, job_id))
    zombie.signal(signal.SIGSTOP)
    heir = start(url, scope="machine b")
    await eventually(lambda: is_completed(database, job_id))
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: "job.lease_lost" in zombie.log, what="the zombie to notice")
    stored = await row(database, job_id)
    assert await effects() == [(job_id, stored["result"]["pid"])]
    assert (stored["lease"], stored["attempts"]) == (2, 2)
    assert (zombie.stop(), heir.stop()) == (0, 0)


async def has_begun(database: Database, job_id: int) -> bool:
    return (await row(database, job_id))["progress"] is not None


async def is_completed(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "completed"


async def test_a_crowd_that_waits_to_run_alone_keeps_no_other_job_waiting(database: Database) -> None:
    crowd = await add(database, *[NewJob("sleep", {"seconds": 60}) for _ in range(12)])
    await claim(database, 12, kinds={"sleep": 5})
    await rescue_all(database)
    [other] = await add(database, NewJob("effectless"))
    mixed = Registry().include(registry)
    mixed.handler("effectless")(lambda attempt, payload: None)
    async with running(database, mixed, concurrency=6, shutdown_seconds=0):
        await eventually(lambda: is_completed(database, other), seconds=20)
        await eventually(lambda: began(database, crowd), seconds=20)
        told = [(await row(database, job_id))["began_alone"] for job_id in crowd]
    assert 0 < len([lease for lease in told if lease is not None]) <= max(4, os.cpu_count() or 1)
    assert {(await row(database, job_id))["attempts"] for job_id in crowd} == {0}, "given back"


async def began(database: Database, ids: list[int]) -> bool:
    return any([(await row(database, job_id))["began_alone"] for job_id in ids])


async def test_a_job_that_waits_to_be_alone_can_be_cancelled(database: Database) -> None:
    from docyard_queue import Inspection

    own, released = Registry(), asyncio.Event()

    @own.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        await released.wait()

    alone, other = await add(database, NewJob("work"), NewJob("work"))
    await claim(database)
    await rescue_all(database)
    await query(database, "UPDATE docyard.procrastinate_jobs SET alone = false WHERE id = %s", other)
    async with running(database, own) as worker:
        await eventually(lambda: both_run(database))
        await Inspection(database).cancel([alone])
        await eventually(lambda: is_cancelled(database, alone))
        released.set()
        await eventually(lambda: worker.completed == 1)


async def both_run(database: Database) -> bool:
    return set(await states(database)) == {"running"}


async def is_cancelled(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "cancelled"
