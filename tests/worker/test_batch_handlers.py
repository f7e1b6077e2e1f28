"""Batch handlers at work: many jobs in one call, counted by their weight, and ended one by one."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.working import AT_ONCE, drain, running

from docyard_queue import (
    AttemptBatch,
    Cancel,
    Inspection,
    NewJob,
    RateLimited,
    Registry,
    Snooze,
    commit_together,
)

if TYPE_CHECKING:
    from docyard_schema import Database


class Texts(BaseModel):
    """The payload of the jobs here."""

    n: int


class Calls:
    """A batch handler that remembers its calls, and waits until it is let through."""

    def __init__(self, *, is_open: bool = True, **options: Any) -> None:
        self.registry = Registry()
        self.sizes: list[int] = []
        self.ids: list[list[int]] = []
        self.inside: list[AttemptBatch] = []
        self.open = asyncio.Event()
        if is_open:
            self.open.set()
        options = {"queue": "many", "size": 10, "backoff": AT_ONCE} | options
        self.registry.batch_handler("many", **options)(self.run)

    @property
    def weight_inside(self) -> float:
        return sum(attempt.job.weight for batch in self.inside for attempt in batch.unsettled)

    async def run(self, batch: AttemptBatch, payloads: list[Texts]) -> None:
        assert [payload.n for payload in payloads] == [attempt.job.payload["n"] for attempt in batch]
        self.sizes.append(len(batch))
        self.ids.append([attempt.job.id for attempt in batch])
        self.inside.append(batch)
        try:
            await self.open.wait()
        finally:
            self.inside.remove(batch)


def jobs(count: int, **options: Any) -> list[NewJob]:
    return [NewJob("many", {"n": n}, queue="many", **options) for n in range(count)]


async def test_jobs_that_wait_are_handed_over_together(database: Database) -> None:
    calls = Calls(size=100)
    ids = await add(database, *jobs(40))
    worker = await drain(database, calls.registry)
    assert worker.completed == 40
    assert sorted(job_id for call in calls.ids for job_id in call) == ids
    assert len(calls.sizes) <= 2
    assert await states(database) == ["completed"] * 40


async def test_slots_count_weights(database: Database) -> None:
    calls = Calls(size=10, is_open=False)
    await add(database, *jobs(8, weight=3))
    async with running(database, calls.registry) as worker:
        await eventually(lambda: calls.weight_inside == 9)
        assert (await states(database)).count("running") == 3
        calls.open.set()
        await eventually(lambda: worker.completed == 8)
    assert max(calls.sizes) == 3


async def test_a_job_heavier_than_the_size_runs_when_nothing_else_does(database: Database) -> None:
    calls = Calls(size=10, is_open=False)
    first, heavy, last = await add(database, *jobs(1, weight=2), *jobs(1, weight=50), *jobs(1, weight=2))
    async with running(database, calls.registry) as worker:
        await eventually(lambda: calls.ids == [[first]])
        await asyncio.sleep(0.1)
        assert calls.ids == [[first]], "nothing overtakes the heavy one"
        calls.open.set()
        await eventually(lambda: worker.completed == 3)
    assert calls.ids == [[first], [heavy], [last]]


async def test_calls_overlap_while_there_is_room(database: Database) -> None:
    calls = Calls(size=10, is_open=False)
    async with running(database, calls.registry) as worker:
        await add(database, *jobs(3))
        await eventually(lambda: calls.weight_inside == 3)
        await add(database, *jobs(4))
        await eventually(lambda: calls.weight_inside == 7)
        assert len(calls.inside) >= 2
        calls.open.set()
        await eventually(lambda: worker.completed == 7)


async def test_a_gathering_waits_for_more_and_ends_early_when_it_is_full(database: Database) -> None:
    calls = Calls(size=10, wait=timedelta(seconds=30))
    async with running(database, calls.registry, poll_seconds=0.2) as worker:
        await add(database, *jobs(6))
        await eventually(lambda: is_running(database, 6))
        assert calls.sizes == []
        await add(database, *jobs(4))
        await eventually(lambda: worker.completed == 10)
    assert calls.sizes == [10]


async def test_a_gathering_that_is_never_full_ends_with_its_time(database: Database) -> None:
    calls = Calls(size=10, wait=timedelta(seconds=0.2))
    async with running(database, calls.registry) as worker:
        await add(database, *jobs(2))
        await eventually(lambda: worker.completed == 2)
    assert calls.sizes == [2]


async def test_batch_kinds_take_no_ordinary_slots_and_leave_none(database: Database) -> None:
    calls = Calls(size=5, is_open=False)
    released = asyncio.Event()

    @calls.registry.handler("work", queue="usual")
    async def work(attempt: Any, payload: Any) -> None:
        await released.wait()

    await add(database, *jobs(20), *[NewJob("work", queue="usual")] * 20)
    async with running(database, calls.registry, concurrency=2) as worker:
        await eventually(lambda: calls.weight_inside == 5)
        await eventually(lambda: is_running(database, 7))
        released.set()
        await eventually(lambda: worker.completed == 20)
        assert calls.weight_inside == 5
        calls.open.set()
        await eventually(lambda: worker.completed == 40)


async def test_what_is_settled_makes_room_at_once_though_the_call_goes_on(database: Database) -> None:
    registry, inside, go_on = Registry(), [], asyncio.Event()

    @registry.batch_handler("many", queue="many", size=4)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        inside.append(batch)
        for attempt in batch[:-1]:
            batch.settle(attempt, {"settled": attempt.job.payload["n"]})
        await go_on.wait()

    ids = await add(database, *jobs(8))
    async with running(database, registry) as worker:
        await eventually(lambda: len(inside) > 1)
        await eventually(lambda: worker.completed >= 3)
        assert (await row(database, ids[0]))["result"] == {"settled": 0}
        go_on.set()
        await eventually(lambda: worker.completed == 8)


async def test_each_attempt_may_end_in_its_own_way(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=10, max_attempts=1)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        batch.settle(batch[0], ValueError("a bad one"))
        batch.settle(batch[1], Snooze(timedelta(hours=1), "not yet"))
        batch.settle(batch[2], Cancel("not wanted"))
        batch.settle(batch[3], RateLimited("too fast", retry_after=timedelta(hours=1)))
        batch.settle(batch[4])

    ids = await add(database, *jobs(6))
    async with running(database, registry):
        await eventually(lambda: none_runs(database, ids))
    assert await states(database) == ["dead", "scheduled", "cancelled", "scheduled", "completed", "completed"]
    assert [(await row(database, job_id))["attempts"] for job_id in ids] == [1, 0, 1, 0, 1, 1]
    assert (await row(database, ids[0]))["error_message"] == "a bad one"


async def test_an_exception_ends_all_that_are_not_settled(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=10, max_attempts=2, backoff=AT_ONCE)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        if batch[0].number == 1:
            batch.settle(batch[0])
            raise ValueError("the whole request failed")

    ids = await add(database, *jobs(3))
    worker = await drain(database, registry)
    assert worker.completed == 3
    assert [(await row(database, job_id))["attempts"] for job_id in ids] == [1, 2, 2]


async def test_a_payload_that_does_not_fit_fails_alone(database: Database) -> None:
    calls = Calls()
    await add(database, *jobs(2), NewJob("many", {"n": "no number"}, queue="many"))
    worker = await drain(database, calls.registry)
    assert (worker.completed, worker.failed) == (2, 1)
    assert await states(database) == ["completed", "completed", "dead"]
    assert sum(calls.sizes) == 2


async def test_a_sync_handler_runs_in_a_thread_and_settles_from_it(database: Database) -> None:
    registry = Registry()

    @registry.batch_handler("many", queue="many", size=10)
    def many(batch: AttemptBatch, payloads: list[Texts]) -> None:
        batch.settle(batch[0], Cancel("by the thread"))
        with batch[1].commit_sync({"n": payloads[1].n}):
            pass
        assert len(batch.unsettled) == len(batch) - 2

    ids = await add(database, *jobs(3))
    worker = await drain(database, registry)
    assert worker.completed == 2
    assert await states(database) == ["cancelled", "completed", "completed"]
    assert (await row(database, ids[1]))["result"] == {"n": 1}


async def test_a_commit_of_many_jobs_of_many_batches_is_one_transaction(database: Database) -> None:
    await query(database, "CREATE TABLE public.effects (job_id bigint)")
    registry, waiting = Registry(), []
    everybody = asyncio.Event()

    @registry.batch_handler("many", queue="many", size=10)
    async def many(batch: AttemptBatch, payloads: Any) -> None:
        waiting.extend(batch)
        await everybody.wait()
        assert all(attempt.committed for attempt in batch)

    async with running(database, registry) as worker:
        ids = await add(database, *jobs(2))
        await eventually(lambda: len(waiting) == 2)
        ids += await add(database, *jobs(3))
        await eventually(lambda: len(waiting) == 5)
        async with commit_together(database, {attempt: {"by": "us"} for attempt in waiting}) as connection:
            for attempt in waiting:
                await connection.execute("INSERT INTO public.effects VALUES (%s)", [attempt.job.id])
        assert worker.completed == 5, "it is told of at once"
        assert await states(database) == ["completed"] * 5
        everybody.set()
    assert [
        found["job_id"] for found in await query(database, "SELECT * FROM public.effects ORDER BY 1")
    ] == ids
    assert {(await row(database, job_id))["result"]["by"] for job_id in ids} == {"us"}
    assert await attempts(database, ids[0])


async def test_a_cancel_ends_one_attempt_and_the_rest_goes_on(database: Database) -> None:
    calls = Calls(is_open=False)
    async with running(database, calls.registry) as worker:
        ids = await add(database, *jobs(3))
        await eventually(lambda: calls.weight_inside == 3)
        await Inspection(database).cancel([ids[1]])
        await eventually(lambda: is_in(database, ids[1], "cancelled"))
        [found] = [attempt for batch in calls.inside for attempt in batch if attempt.job.id == ids[1]]
        assert found.cancel_requested
        assert calls.weight_inside == 2
        calls.open.set()
        await eventually(lambda: worker.completed == 2)


async def test_a_call_whose_jobs_are_all_cancelled_ends(database: Database) -> None:
    calls = Calls(is_open=False)
    async with running(database, calls.registry):
        ids = await add(database, *jobs(2))
        await eventually(lambda: calls.weight_inside == 2)
        await Inspection(database).cancel(ids)
        await eventually(lambda: not calls.inside)
        await eventually(lambda: is_in(database, ids[1], "cancelled"))


async def test_a_stop_gives_back_what_has_not_ended(database: Database) -> None:
    calls = Calls(size=6, is_open=False)
    ids = await add(database, *jobs(8))
    async with running(database, calls.registry, shutdown_seconds=0.1):
        await eventually(lambda: calls.weight_inside == 6)
    assert await states(database) == ["available"] * 8
    assert {(await row(database, job_id))["attempts"] for job_id in ids} == {0}
    assert [told["outcome"] for told in await attempts(database, ids[0])] == ["released"]


async def test_a_stop_gives_back_what_is_still_gathered(database: Database) -> None:
    calls = Calls(wait=timedelta(seconds=30))
    await add(database, *jobs(3))
    async with running(database, calls.registry, shutdown_seconds=30):
        await eventually(lambda: is_running(database, 3))
    assert await states(database) == ["available"] * 3
    assert calls.sizes == []


async def test_the_timeout_is_that_of_the_call(database: Database) -> None:
    calls = Calls(is_open=False, timeout=timedelta(seconds=0.2), max_attempts=1)
    ids = await add(database, *jobs(3))
    worker = await drain(database, calls.registry)
    assert worker.failed == 3
    assert {(await row(database, job_id))["error_code"] for job_id in ids} == {"timeout"}


async def test_a_thread_that_outlives_its_call_keeps_the_room(database: Database) -> None:
    registry, calls, go_on = Registry(), [], threading.Event()

    @registry.batch_handler("many", queue="many", size=1, timeout=timedelta(seconds=0.2), max_attempts=1)
    def many(batch: AttemptBatch, payloads: Any) -> None:
        calls.append(batch[0].job.id)
        if len(calls) == 1:
            go_on.wait(20)

    first, second = await add(database, *jobs(2))
    async with running(database, registry) as worker:
        await eventually(lambda: is_in(database, first, "dead"))
        await asyncio.sleep(0.1)
        assert calls == [first]
        go_on.set()
        await eventually(lambda: worker.completed == 1)
    assert calls == [first, second]


async def test_a_jobs_own_timeout_ends_its_attempt_alone(database: Database) -> None:
    calls = Calls(is_open=False, max_attempts=1)
    async with running(database, calls.registry) as worker:
        short, long = await add(database, *jobs(1, timeout=timedelta(seconds=0.2)), *jobs(1))
        await eventually(lambda: is_in(database, short, "dead"))
        assert await state(database, long) == "running"
        calls.open.set()
        await eventually(lambda: worker.completed == 1)


async def is_running(database: Database, count: int) -> bool:
    return (await states(database)).count("running") == count


async def is_in(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted


async def none_runs(database: Database, ids: list[int]) -> bool:
    return not {"running", "available"} & {await state(database, job_id) for job_id in ids}
