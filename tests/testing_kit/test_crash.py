"""crash_at() ends an attempt as a killed process does; what a handler commits is there once all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, get_args

import pytest
from support.queueing import add, attempts, query, row, state

from docyard.testing import crash_at, drain, perform, rescue_now
from docyard.testing.crashing import CrashPoint
from docyard_queue import Registry
from docyard_schema import InvalidInput

if TYPE_CHECKING:
    from testing_kit.conftest import Effects

    from docyard_schema import Database


@pytest.mark.parametrize("kind", ["charge", "charge_sync"])
@pytest.mark.parametrize("point", get_args(CrashPoint))
async def test_after_a_crash_another_worker_goes_on_and_effects_are_there_once(
    database: Database, effects: Effects, point: CrashPoint, kind: str
) -> None:
    [job_id] = await add(database, effects.registry.job(kind, {"order": 7}))
    crash = crash_at(point, kind)
    drained = await drain(database, effects.registry, crash=crash)
    assert crash.happened
    assert drained.crashed == 1
    assert await effects.rows() == [7]
    assert await state(database, job_id) == "completed"
    assert next(done.outcome for done in drained.attempts if done.job.id == job_id) == "crashed"
    told = [entry["outcome"] for entry in await attempts(database, job_id)]
    # After the commit the job is done: there is nothing to rescue.
    committed = point in ("after_commit", "before_finish")
    assert told == (["completed"] if committed else ["crashed", "completed"])


async def test_until_rescue_the_job_is_as_a_killed_worker_leaves_it(
    database: Database, effects: Effects
) -> None:
    done = await perform(
        database, effects.registry, "charge", {"order": 7}, crash=crash_at("in_commit", "charge")
    )
    assert (done.outcome, done.done) == ("crashed", False)
    stored = await row(database, done.job.id)
    assert (stored["status"], stored["lease"], stored["attempts"]) == ("doing", 1, 1)
    assert await query(database, "SELECT FROM docyard.procrastinate_workers") == []
    assert await effects.rows() == []
    [rescued] = await rescue_now(database)
    assert (rescued.job_id, rescued.attempts, rescued.dead) == (done.job.id, 1, False)
    assert await rescue_now(database) == []
    assert (await drain(database, effects.registry)).done == 2
    assert await effects.rows() == [7]


async def test_a_handler_can_be_tried_at_each_of_its_waits(database: Database, effects: Effects) -> None:
    for wait in range(1, 100):
        crash = crash_at("in_handler", "charge", wait=wait)
        await add(database, effects.registry.job("charge", {"order": wait}))
        await drain(database, effects.registry, crash=crash)
        assert await effects.rows() == [*range(1, wait + 1)], f"killed at wait {wait}"
        if not crash.happened:
            break
    assert 4 < wait < 99, "it waits for a connection, BEGIN, two or three statements, COMMIT"


async def test_a_handler_whose_effects_are_outside_the_commit_is_found_out(database: Database) -> None:
    registry, effects = Registry(), []

    @registry.handler("send")
    async def send(attempt: Any, payload: Any) -> None:
        effects.append("mail")
        async with attempt.commit():
            pass

    await add(database, registry.job("send"))
    await drain(database, registry, crash=crash_at("in_commit"))
    assert effects == ["mail", "mail"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_waits_for_nothing_is_ended_at_its_end(
    database: Database, is_async: bool
) -> None:
    registry, ran = Registry(), []

    async def work(attempt: Any, payload: Any) -> None:
        ran.append(attempt.number)

    def work_sync(attempt: Any, payload: Any) -> None:
        ran.append(attempt.number)

    registry.handler("work")(work if is_async else work_sync)
    await add(database, registry.job("work"))
    drained = await drain(database, registry, crash=crash_at("in_handler", "work"))
    assert ([done.outcome for done in drained.attempts], ran) == (["crashed", "done"], [1, 2])


async def test_who_is_dead_stays_dead(database: Database) -> None:
    """Also when the handler catches everything and goes on."""
    registry, went_on = Registry(), []

    @registry.handler("stubborn", max_attempts=1)
    async def stubborn(attempt: Any, payload: Any) -> None:
        try:
            await asyncio.sleep(0)
        except BaseException:
            went_on.append("on")
        async with attempt.commit():
            went_on.append("in the block")

    [job_id] = await add(database, registry.job("stubborn"))
    done = (await drain(database, registry, crash=crash_at("in_handler"))).attempts
    assert ([one.outcome for one in done], went_on) == (["crashed"], ["on"])
    # It was its last attempt.
    assert await state(database, job_id) == "dead"


async def test_a_crash_is_for_its_kind_and_happens_once(database: Database, effects: Effects) -> None:
    await add(database, *[effects.registry.job("charge", {"order": n}) for n in (7, 8)])
    crash = crash_at("claimed", "receipt")
    drained = await drain(database, effects.registry, crash=crash)
    assert (drained.crashed, drained.done) == (1, 4)
    crash = crash_at("claimed", "unheard")
    await drain(database, effects.registry, crash=crash)
    assert not crash.happened


async def test_later_crashes_wait_and_the_clock_may_go_on(database: Database, effects: Effects) -> None:
    [job_id] = await add(database, effects.registry.job("charge", {"order": 7}))
    for _ in range(2):
        assert (await drain(database, effects.registry, crash=crash_at("in_commit"))).crashed == 1
        if await state(database, job_id) == "completed":
            break
    await drain(database, effects.registry, with_scheduled=True)
    assert await effects.rows() == [7]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Expected one of: claimed, in_handler"):
        crash_at("somewhere")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="wait counts from 1"):
        crash_at("in_handler", wait=0)
    with pytest.raises(InvalidInput, match="wait counts from 1"):
        crash_at("claimed", wait=2)


async def test_a_crash_cannot_be_in_the_callers_transaction(database: Database, effects: Effects) -> None:
    async with database.transaction() as connection:
        with pytest.raises(InvalidInput, match="takes its transaction along"):
            await perform(
                database, effects.registry, "receipt", connection=connection, crash=crash_at("claimed")
            )
