"""Workers that are killed, stopped, and die of their jobs: nothing is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.worker_app import registry
from support.working import running

from docyard_queue import Inspection, NewJob, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

pytestmark = pytest.mark.slow


async def runs(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "running"


async def is_completed(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "completed"


@pytest.mark.fault(1)
async def test_the_job_of_a_killed_worker_is_taken_at_once_by_a_neighbour(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    # With its heartbeat it would have had half a minute.
    victim = start(url, heartbeat_seconds=10)
    [job_id] = await add(database, NewJob("effect", {"seconds": 1}))
    await eventually(lambda: runs(database, job_id))
    victim.kill()
    before = time.monotonic()
    heir = start(url)
    await eventually(lambda: is_completed(database, job_id))
    assert time.monotonic() - before < 10
    assert await effects() == [(job_id, heir.pid)]
    assert [entry["outcome"] for entry in await attempts(database, job_id)] == ["crashed", "completed"]


@pytest.mark.fault(1)
async def test_on_another_machine_it_is_taken_after_three_heartbeats(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    victim = start(url, scope="machine a", heartbeat_seconds=0.5)
    [job_id] = await add(database, NewJob("effect", {"seconds": 1.5}))
    await eventually(lambda: runs(database, job_id))
    async with running(database, registry, heartbeat_seconds=0.1):
        await asyncio.sleep(1)
        assert (await row(database, job_id))["lease"] == 1, "its worker lives"
        victim.kill()
        before = time.monotonic()
        await eventually(lambda: is_leased_again(database, job_id))
        assert 0.5 < time.monotonic() - before < 5
        await eventually(lambda: is_completed(database, job_id))
    assert len(await effects()) == 1


async def is_leased_again(database: Database, job_id: int) -> bool:
    return bool((await row(database, job_id))["lease"] == 2)


@pytest.mark.fault(2)
async def test_a_zombies_late_commit_is_refused(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    zombie = start(url, scope="machine a")
    [job_id] = await add(database, NewJob("effect", {"seconds": 1}))
    await eventually(lambda: runs(database, job_id))
    zombie.signal(signal.SIGSTOP)
    heir = start(url, scope="machine b")
    await eventually(lambda: is_completed(database, job_id))
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: "job.lease_lost" in zombie.log, what="the zombie to notice")
    assert await effects() == [(job_id, heir.pid)]
    stored = await row(database, job_id)
    assert (stored["status"], stored["lease"], stored["attempts"]) == ("succeeded", 2, 2)
    # It came back under its number and works on.
    [other] = await add(database, NewJob("sleep", {"seconds": 0}))
    heir.stop()
    await eventually(lambda: is_completed(database, other))
    [worker] = await Inspection(database).workers()
    assert (worker.pid, worker.state) == (zombie.pid, "running")
    assert zombie.stop() == 0


@pytest.mark.fault(2)
async def test_a_zombie_inside_its_transaction_is_rolled_back_and_its_job_goes_on_elsewhere(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    zombie = start(url, scope="machine a")
    [job_id] = await add(database, NewJob("effect", {"inside": 2}))
    await eventually(lambda: has_open_effect(database), what="the zombie to hold its job's row")
    zombie.signal(signal.SIGSTOP)
    heir = start(url, scope="machine b")
    await eventually(lambda: is_leased_again(database, job_id), seconds=5)
    await eventually(lambda: is_completed(database, job_id))
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: "job.lease_lost" in zombie.log, what="the zombie to notice")
    assert await effects() == [(job_id, heir.pid)], "once, although both had written it"
    assert (await row(database, job_id))["attempts"] == 2
    assert zombie.stop() == 0


async def has_open_effect(database: Database) -> bool:
    return bool(
        await query(
            database,
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'idle in transaction' AND query LIKE 'INSERT INTO public.effects%%'",
        )
    )


@pytest.mark.fault(3)
async def test_a_job_that_always_kills_its_worker_becomes_a_dead_letter(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    [killer] = await add(database, NewJob("die", priority=9))
    harmless = await add(database, *[NewJob("effect", {"seconds": 0.2}) for _ in range(3)])
    workers = 0

    async def all_settled() -> bool:
        nonlocal workers
        if not workers or current.ended():
            workers += 1
            start_another()
        return not {"running", "available", "retryable"} & set(await states(database))

    def start_another() -> None:
        nonlocal current
        current = start(url)

    current: Any = None
    await eventually(all_settled, seconds=30)
    assert workers == 2, "one died of it, the second ran it in a child"
    assert await states(database) == ["dead", "completed", "completed", "completed"]
    stored = await row(database, killer)
    assert (stored["attempts"], stored["error_code"]) == (2, "crashed")
    told = [entry["outcome"] for entry in await attempts(database, killer)]
    assert told == ["released", "crashed", "crashed"], "the first time it might have been another"
    assert [job_id for job_id, _ in await effects()] == harmless


@pytest.mark.fault(1)
async def test_a_storm_of_kills_does_each_effect_exactly_once(
    database: Database, url: str, start: Callable[..., Any], effects: Callable[[], Any]
) -> None:
    ids = await add(database, *[NewJob("effect", {"seconds": 0.01}, max_attempts=50) for _ in range(400)])
    for _ in range(4):
        worker = start(url, concurrency=20)
        done = len(await effects())
        await eventually(lambda done=done: more(effects, done + 30))
        worker.kill()
    start(url, concurrency=20)
    await eventually(lambda: all_completed(database), seconds=30)
    assert [job_id for job_id, _ in await effects()] == ids


async def more(effects: Callable[[], Any], wanted: int) -> bool:
    return len(await effects()) >= wanted


async def all_completed(database: Database) -> bool:
    return set(await states(database)) == {"completed"}


@pytest.mark.fault(17)
async def test_sigterm_gives_a_long_job_back_and_lets_a_short_one_finish(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    worker = start(url, shutdown_seconds=1.5)
    short, long = await add(database, NewJob("sleep", {"seconds": 1}), NewJob("sleep", {"seconds": 60}))
    await eventually(lambda: runs(database, long))
    assert worker.stop() == 0
    assert [await state(database, job_id) for job_id in (short, long)] == ["completed", "available"]
    assert (await row(database, long))["attempts"] == 0
    assert await Inspection(database).workers() == []


async def test_a_hanging_thread_does_not_keep_a_stopped_worker_from_ending(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    worker = start(url, shutdown_seconds=0.2)
    [job_id] = await add(database, NewJob("thread", {"seconds": 300}))
    await eventually(lambda: runs(database, job_id))
    before = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - before < 10
    assert await state(database, job_id) == "available"


@pytest.mark.fault(3)
async def test_a_blocked_event_loop_does_not_make_a_worker_look_dead(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    worker = start(url, scope="machine a")
    [job_id] = await add(database, NewJob("block", {"seconds": 2}))
    await eventually(lambda: runs(database, job_id))
    async with running(database, registry, heartbeat_seconds=0.1):
        await eventually(lambda: is_completed(database, job_id))
    stored = await row(database, job_id)
    assert (stored["lease"], stored["attempts"]) == (1, 1), "nobody else took it"
    assert worker.stop() == 0
    assert await query(database, "SELECT 1 FROM docyard.job_attempts") == []


async def test_a_handler_that_holds_the_gil_for_three_heartbeats_has_crashed(
    database: Database, url: str, start: Callable[..., Any]
) -> None:
    worker = start(url)
    [job_id] = await add(database, NewJob("hold_gil", {"seconds": 3}, max_attempts=1))
    await eventually(lambda: runs(database, job_id))
    before = time.monotonic()
    async with running(database, Registry(), heartbeat_seconds=0.1):
        await eventually(lambda: is_dead(database, job_id))
        assert time.monotonic() - before < 2.5, "while it was still held"
        assert not worker.ended()
        await eventually(lambda: "job.lease_lost" in worker.log, what="its late finish to be refused")
    stored = await row(database, job_id)
    assert (stored["error_code"], stored["attempts"], stored["result"]) == ("crashed", 1, None)
    assert [entry["outcome"] for entry in await attempts(database, job_id)] == ["crashed"]
    assert worker.stop() == 0


async def is_dead(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "dead"
