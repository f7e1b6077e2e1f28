"""The worker's life: it starts, claims no more than it can run, wakes, drains, and stops."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import opened
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.working import AT_ONCE, a_worker, drain, running

from docyard_queue import Inspection, NewJob, Registry, Snooze
from docyard_schema.errors import ConfigError
from docyard_workers.process import WorkerOptions

if TYPE_CHECKING:
    from docyard_schema import Database


class Gate:
    """Handlers that wait until they are let through, and count who is inside."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.open = asyncio.Event()
        self.inside = self.most = 0
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.registry.handler("work", max_attempts=3, backoff=AT_ONCE)(self.run)

    async def run(self, attempt: Any, payload: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
            self.ended.append(attempt.job.id)
        except asyncio.CancelledError:
            self.cancelled.append(attempt.job.id)
            raise
        finally:
            self.inside -= 1


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_a_drain_runs_all_that_can_run_and_waits_for_retries(database: Database) -> None:
    registry = Registry()

    @registry.handler("work", max_attempts=2, backoff=AT_ONCE)
    async def handler(attempt: Any, payload: Any) -> None:
        if payload["n"] % 10 == 0 and attempt.number == 1:
            raise ValueError

    ids = await add(database, *[NewJob("work", {"n": n}) for n in range(200)])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await add(database, NewJob("work", run_at=tomorrow), NewJob("unknown"))
    worker = await drain(database, registry)
    assert (worker.completed, worker.failed) == (200, 0)
    assert await states(database) == ["completed"] * 200 + ["scheduled", "available"]
    assert (await row(database, ids[0]))["attempts"] == 2


async def test_a_drain_waits_for_what_was_snoozed(database: Database) -> None:
    registry = Registry()

    @registry.handler("work")
    async def handler(attempt: Any, payload: Any) -> Any:
        return Snooze(timedelta(seconds=0.3)) if attempt.job.lease < 3 else None

    await add(database)
    assert (await drain(database, registry)).completed == 1


async def test_a_drain_of_nothing_ends(database: Database) -> None:
    assert (await drain(database, Gate().registry)).completed == 0


async def test_jobs_that_a_drain_makes_are_drained_too(database: Database) -> None:
    registry = Registry()

    @registry.handler("work")
    async def handler(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            if payload["left"]:
                await attempt.enqueue(NewJob("work", {"left": payload["left"] - 1}), connection=connection)

    await add(database, NewJob("work", {"left": 5}))
    assert (await drain(database, registry)).completed == 6


async def test_no_more_than_the_concurrency_run_and_no_more_are_claimed(
    database: Database, gate: Gate
) -> None:
    await add(database, *[NewJob("work")] * 20)
    async with running(database, gate.registry, concurrency=3) as worker:
        await eventually(lambda: gate.inside == 3)
        assert (await states(database)).count("running") == 3, "nothing is hoarded"
        gate.open.set()
        await eventually(lambda: worker.completed == 20)
    assert gate.most == 3


async def test_a_new_job_starts_at_once_though_the_poll_is_far(database: Database, gate: Gate) -> None:
    gate.open.set()
    async with running(database, gate.registry, poll_seconds=60):
        await asyncio.sleep(0.2)
        latencies = []
        for _ in range(10):
            before = time.monotonic()
            [job_id] = await add(database)
            await eventually(lambda job_id=job_id: job_id in gate.ended)
            latencies.append(time.monotonic() - before)
    assert sorted(latencies)[5] < 1


async def test_a_retry_that_is_due_sooner_than_the_poll_starts_when_it_is_due(database: Database) -> None:
    registry = Registry()
    from docyard_queue import Backoff

    @registry.handler("work", max_attempts=4, backoff=Backoff(base=timedelta(seconds=0.1), jitter=False))
    async def handler(attempt: Any, payload: Any) -> None:
        if attempt.number < 3:
            raise ValueError

    [job_id] = await add(database)
    async with running(database, registry, poll_seconds=60):
        await eventually(lambda: completed(database, job_id), seconds=5)


async def completed(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "completed"


async def test_the_next_job_of_a_lock_starts_when_the_lock_is_free(database: Database) -> None:
    registry, order = Registry(), []

    @registry.handler("work")
    async def handler(attempt: Any, payload: Any) -> None:
        order.append(attempt.job.id)

    ids = await add(database, *[NewJob("work", lock_key="l")] * 20)
    async with running(database, registry, poll_seconds=60) as worker:
        await eventually(lambda: worker.completed == 20, seconds=10)
    assert order == ids


async def test_an_idle_worker_is_idle(
    database: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = []
    async with running(database, gate.registry, poll_seconds=60) as worker:
        original = worker._engine.claim

        async def counting(*arguments: Any, **options: Any) -> Any:
            claims.append(1)
            return await original(*arguments, **options)

        monkeypatch.setattr(worker._engine, "claim", counting)
        await add(database, *[NewJob("work")] * 20)
        await eventually(lambda: gate.inside == 10)
        await asyncio.sleep(1)
        busy = len(claims)
        gate.open.set()
        await eventually(lambda: worker.completed == 20)
        await asyncio.sleep(0.5)
    assert busy <= 3, "it asks although it has no free slot"
    assert len(claims) <= 25, "it spins"


@pytest.mark.fault(12)
async def test_polling_alone_finds_jobs_behind_a_transaction_pooler_and_says_so(
    url: str, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.open.set()
    async with opened(url, pooler="transaction") as database:
        async with running(database, gate.registry, poll_seconds=0.1) as worker:
            await add(database)
            await eventually(lambda: worker.completed == 1)
        sessions = await query(
            database,
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'",
        )
    assert sessions == []
    assert "listener.disabled" in capsys.readouterr().out


@pytest.mark.parametrize("pooler", [False, True], ids=["", "behind a pooler with a direct way"])
async def test_it_listens_on_a_connection_of_its_own(url: str, gate: Gate, pooler: bool) -> None:
    settings = {"pooler": "transaction", "direct_database_url": url} if pooler else {}
    gate.open.set()
    async with (
        opened(url, **settings) as database,
        running(database, gate.registry, poll_seconds=60) as worker,
    ):
        await asyncio.sleep(0.2)
        await add(database)
        await eventually(lambda: worker.completed == 1, seconds=5)


# Stopping


async def test_a_stop_lets_running_jobs_finish_and_claims_no_more(database: Database, gate: Gate) -> None:
    first, second = await add(database, *[NewJob("work")] * 2)
    async with a_worker(database, gate.registry, concurrency=1) as worker:
        task = asyncio.create_task(worker.run())
        await eventually(lambda: gate.inside == 1)
        worker.stop()
        worker.stop()
        await asyncio.wait_for(task, 5)
        asyncio.get_running_loop().call_later(0.2, gate.open.set)
    assert gate.ended == [first]
    assert [await state(database, job_id) for job_id in (first, second)] == ["completed", "available"]
    assert await Inspection(database).workers() == [], "it signed off"


async def test_a_job_that_outlasts_the_stop_is_given_back_without_burning_its_attempt(
    database: Database, gate: Gate
) -> None:
    [job_id] = await add(database, NewJob("work", max_attempts=1))
    async with running(database, gate.registry, shutdown_seconds=0.1):
        await eventually(lambda: gate.inside == 1)
    assert gate.cancelled == [job_id]
    stored = await row(database, job_id)
    assert (stored["status"], stored["attempts"], stored["worker_id"]) == ("todo", 0, None)
    assert [entry["outcome"] for entry in await attempts(database, job_id)] == ["released"]
    gate.open.set()
    await drain(database, gate.registry)
    assert await state(database, job_id) == "completed"


@pytest.mark.fault(17)
async def test_the_heartbeat_goes_on_until_the_last_job_has_ended(database: Database, gate: Gate) -> None:
    await add(database)

    async def beats() -> list[Any]:
        rows = await Inspection(database).workers()
        return [(worker.state, worker.heartbeat_at) for worker in rows]

    async with running(database, gate.registry, heartbeat_seconds=0.1) as worker:
        await eventually(lambda: gate.inside == 1)
        leaving = asyncio.create_task(worker.__aexit__())
        [(_, first)] = await eventually(beats)
        [(said, _)] = await eventually(lambda: later(beats, first))
        assert said == "stopping"
        gate.open.set()
        await asyncio.wait_for(leaving, 10)
    assert await beats() == []


async def later(beats: Any, first: datetime) -> Any:
    found = await beats()
    return (
        found
        if found and found[0][0] == "stopping" and found[0][1] > first + timedelta(seconds=0.3)
        else None
    )


async def test_a_handler_that_does_not_let_itself_be_cancelled_does_not_hold_up_the_stop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docyard_workers.process.attempts._RELEASE_SECONDS", 0.2)
    registry, inside, end = Registry(), asyncio.Event(), asyncio.Event()

    @registry.handler("work")
    async def stubborn(attempt: Any, payload: Any) -> None:
        inside.set()
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()

    [job_id] = await add(database)
    async with running(database, registry, shutdown_seconds=0.1):
        await inside.wait()
        before = time.monotonic()
    assert time.monotonic() - before < 5
    assert await state(database, job_id) == "running", "others find it: its worker is gone"
    end.set()
    await asyncio.sleep(0.2)


async def test_a_cancelled_run_gives_back_what_its_claim_may_have_taken(
    database: Database, gate: Gate
) -> None:
    ids = await add(database, *[NewJob("work")] * 2)
    async with a_worker(database, gate.registry, shutdown_seconds=0.1) as worker:
        # As if the answer to a claim had been lost.
        await worker._engine.claim(worker._heartbeat.worker_id, slots=2, kinds={"work": 3}, queues=None)
    assert await states(database) == ["available"] * 2
    assert [(await row(database, job_id))["attempts"] for job_id in ids] == [0, 0]


async def test_a_living_worker_gives_back_what_never_reached_it(database: Database, gate: Gate) -> None:
    gate.open.set()
    [job_id] = await add(database)
    async with running(database, gate.registry, heartbeat_seconds=0.2) as worker:
        await eventually(lambda: completed(database, job_id))
        await query(
            database,
            "INSERT INTO docyard.procrastinate_jobs "
            "(queue_name, task_name, status, attempts, lease, worker_id, started_at) "
            "VALUES ('default', 'work', 'doing', 1, 1, %s, now())", worker._heartbeat.worker_id,
        )  # fmt: skip
        await eventually(lambda: worker.completed == 2)
    assert (await states(database)) == ["completed"] * 2


# Cancelling


async def test_a_running_job_is_cancelled_by_a_notice(database: Database, gate: Gate) -> None:
    first, second = await add(database, *[NewJob("work")] * 2)
    async with running(database, gate.registry, heartbeat_seconds=60):
        await eventually(lambda: gate.inside == 2)
        await Inspection(database).cancel([first])
        await eventually(lambda: gate.cancelled == [first], seconds=5)
        await eventually(lambda: is_in(database, first, "cancelled"))
        assert await state(database, second) == "running"
        gate.open.set()
    assert [entry["outcome"] for entry in await attempts(database, first)] == ["cancelled"]
    assert await state(database, second) == "completed"


async def is_in(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted


async def test_a_running_job_is_cancelled_by_the_heartbeat_when_no_notice_comes(url: str, gate: Gate) -> None:
    async with opened(url, pooler="transaction") as database:
        [job_id] = await add(database)
        async with running(database, gate.registry, heartbeat_seconds=0.1, poll_seconds=0.1):
            await eventually(lambda: gate.inside == 1)
            await Inspection(database).cancel([job_id])
            await eventually(lambda: is_in(database, job_id, "cancelled"))
    assert gate.cancelled == [job_id]


@pytest.mark.parametrize(
    "payload", ['{"type": "abort_job_requested", "job_id": 1}', "[[[", "1", '{"job_id": "x"}', ""]
)
async def test_a_forged_notice_cancels_nothing(database: Database, gate: Gate, payload: str) -> None:
    [job_id] = await add(database)
    async with running(database, gate.registry, poll_seconds=60) as worker:
        await eventually(lambda: gate.inside == 1)
        await query(database, "SELECT pg_notify('procrastinate_any_queue_v1', %s)", payload)
        [other] = await add(database)
        await eventually(lambda: gate.inside == 2)
        gate.open.set()
        await eventually(lambda: worker.completed == 2)
    assert [await state(database, job) for job in (job_id, other)] == ["completed"] * 2


async def test_a_cancelled_sync_handler_keeps_its_slot_until_its_thread_ends(database: Database) -> None:
    registry, release, seen = Registry(), threading.Event(), []

    @registry.handler("work")
    def handler(attempt: Any, payload: Any) -> None:
        seen.append(attempt)
        if len(seen) == 1:
            release.wait(20)

    first, second = await add(database, *[NewJob("work")] * 2)
    async with running(database, registry, concurrency=1):
        await eventually(lambda: seen)
        await Inspection(database).cancel([first])
        await eventually(lambda: is_in(database, first, "cancelled"))
        assert seen[0].cancel_requested, "a sync handler may look"
        await asyncio.sleep(0.3)
        assert await state(database, second) == "available"
        release.set()
        await eventually(lambda: is_in(database, second, "completed"))


async def test_sync_handlers_run_side_by_side_up_to_the_concurrency(database: Database) -> None:
    registry, all_inside = Registry(), threading.Barrier(20)

    @registry.handler("work")
    def handler(attempt: Any, payload: Any) -> str:
        all_inside.wait(20)
        return threading.current_thread().name

    ids = await add(database, *[NewJob("work")] * 20)
    await drain(database, registry, concurrency=20)
    assert {(await row(database, job_id))["result"] for job_id in ids} == {"docyard-handler"}


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"heartbeat_seconds": 0},
        {"poll_seconds": -1},
        {"shutdown_seconds": -1},
        {"queues": []},
        {"queues": "ingest"},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        WorkerOptions(**options)


async def test_notices_that_come_again_cancel_a_handler_once(database: Database) -> None:
    registry, begun, cancels = Registry(), asyncio.Event(), []

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancels.append("sleep")
            try:
                # What a statement does that is cancelled: it waits for the server to end it.
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                cancels.append("clean-up")
            raise

    [job_id] = await add(database)
    async with running(database, registry) as worker:
        await begun.wait()
        for _ in range(5):
            worker._attempts.cancel([job_id])
            await asyncio.sleep(0.02)
        await eventually(lambda: was_cancelled(database, job_id))
    assert cancels == ["sleep"]


async def was_cancelled(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "cancelled"
