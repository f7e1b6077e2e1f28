"""perform() runs one handler as a worker would, here and now."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.queueing import query, row, state
from support.working import running

from docyard.testing import assert_enqueued, assert_enqueued_async, perform, refute_enqueued
from docyard_queue import Registry, UnknownKind
from docyard_queue.limits import Limits, set_limits
from docyard_queue.queues import pause
from docyard_schema import InvalidInput

if TYPE_CHECKING:
    from testing_kit.conftest import Effects

    from docyard_schema import Database


async def test_a_handler_commits_and_its_result_comes_back(database: Database, effects: Effects) -> None:
    done = await perform(database, effects.registry, "charge", {"order": 7})
    assert (done.outcome, done.done, done.result) == ("done", True, {"charged": 7})
    assert done.job.queue == "billing"
    assert await effects.rows() == [7]
    assert_enqueued(database, "receipt", {"order": 7}, count=1)
    assert await state(database, done.job.id) == "completed"
    stored = await row(database, done.job.id)
    assert (stored["queue_name"], stored["result"]) == ("billing", {"charged": 7})


async def test_what_a_handler_returns_is_its_result(database: Database, effects: Effects) -> None:
    done = await perform(database, effects.registry, "receipt", {"order": 7})
    assert done.require_done().result == {"printed": 7}
    assert (await row(database, done.job.id))["result"] == {"printed": 7}


async def test_a_sync_handler_commits_too(database: Database, effects: Effects) -> None:
    done = await perform(database, effects.registry, "charge_sync", {"order": 7})
    assert done.require_done().result == {"charged": 7}
    assert await effects.rows() == [7]


async def test_a_payload_that_does_not_fit_is_a_dead_letter(database: Database, effects: Effects) -> None:
    done = await perform(database, effects.registry, "charge", {"order": "seven"})
    assert (done.outcome, done.dead, done.retryable, done.code) == ("failed", True, False, "permanent")
    assert "does not fit Order: order:" in done.message
    assert effects.begun == []
    assert await state(database, done.job.id) == "dead"


async def test_a_failure_says_whether_and_when_it_is_tried_again(
    database: Database, effects: Effects
) -> None:
    effects.problems = [problem := ZeroDivisionError("by zero")]
    done = await perform(database, effects.registry, "charge", {"order": 7})
    assert (done.retryable, done.dead, done.delay) == (True, False, timedelta(minutes=1))
    assert done.error is problem
    assert (done.error_class, done.message) == ("ZeroDivisionError", "by zero")
    assert "Traceback" in done.traceback
    assert await state(database, done.job.id) == "retryable"
    with pytest.raises(AssertionError, match=r"ZeroDivisionError: by zero\), again in 0:01:00") as raised:
        done.require_done()
    assert raised.value.__cause__ is problem


async def test_the_last_attempt_is_the_end(database: Database, effects: Effects) -> None:
    effects.problems = [ZeroDivisionError()]
    done = await perform(database, effects.registry, "charge", {"order": 7}, attempt=3)
    assert (done.job.attempt, done.dead) == (3, True)
    assert await state(database, done.job.id) == "dead"


async def test_what_is_raised_after_the_commit_changes_nothing(database: Database) -> None:
    registry = Registry()

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        async with attempt.commit():
            pass
        raise ZeroDivisionError

    done = await perform(database, registry, "work")
    assert (done.outcome, type(done.error)) == ("done", ZeroDivisionError)
    assert await state(database, done.job.id) == "completed"


@pytest.mark.parametrize(
    ("kind", "outcome", "delay", "reason", "ends_as"),
    [
        ("snooze", "snoozed", timedelta(hours=1), "not yet", "scheduled"),
        ("limited", "snoozed", timedelta(seconds=9), "slow down", "scheduled"),
        ("cancel", "cancelled", None, "no longer wanted", "cancelled"),
    ],
)
async def test_other_outcomes(
    database: Database, effects: Effects, kind: str, outcome: str, delay: timedelta | None, reason: str,
    ends_as: str,
) -> None:  # fmt: skip
    done = await perform(database, effects.registry, kind)
    assert (done.outcome, done.delay) == (outcome, delay)
    assert reason in done.reason
    assert await state(database, done.job.id) == ends_as


async def test_a_time_limit_is_kept(database: Database) -> None:
    registry = Registry()

    @registry.handler("slow", timeout=timedelta(milliseconds=50))
    async def slow(attempt: Any, payload: Any) -> None:
        await asyncio.Event().wait()

    done = await perform(database, registry, "slow")
    assert (done.code, done.retryable) == ("timeout", True)
    done = await perform(database, registry, "slow", timeout=timedelta(milliseconds=10))
    assert "0.01 s" in done.message


async def test_in_the_callers_transaction_everything_is_undone_with_it(
    url: str, database: Database, effects: Effects
) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("INSERT INTO public.effects VALUES (1)")
        done = await perform(database, effects.registry, "charge", {"order": 7}, connection=connection)
        assert done.require_done().result == {"charged": 7}
        cursor = await connection.execute("SELECT order_id FROM public.effects ORDER BY 1")
        assert await cursor.fetchall() == [(1,), (7,)]
        await assert_enqueued_async(connection, "receipt", {"order": 7})
        refute_enqueued(database, "receipt")
        await connection.rollback()
    assert await effects.rows() == []
    assert await query(database, "SELECT FROM docyard.procrastinate_jobs") == []
    assert await query(database, "SELECT FROM docyard.procrastinate_workers") == []


async def test_a_handler_that_fails_leaves_the_callers_transaction_whole(
    url: str, database: Database
) -> None:
    registry = Registry()

    @registry.handler("work", max_attempts=1)
    async def work(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            await connection.execute("SELECT 1 / 0")

    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("CREATE TABLE public.mine (n int)")
        done = await perform(database, registry, "work", connection=connection)
        assert (done.dead, type(done.error)) == (True, psycopg.errors.DivisionByZero)
        await assert_enqueued_async(connection, "work", state="dead")
        await connection.commit()
    assert await query(database, "SELECT n FROM public.mine") == []


async def test_a_worker_that_runs_beside_it_does_not_take_the_job(
    database: Database, effects: Effects
) -> None:
    other = Registry()
    other.handler("charge")(lambda attempt, payload: effects.begun.append(99))
    async with running(database, other, poll_seconds=0.05, heartbeat_seconds=0.2):
        for _ in range(10):
            assert (await perform(database, effects.registry, "charge", {"order": 7})).done
    assert 99 not in effects.begun


async def test_neither_a_pause_nor_a_limit_keeps_it_waiting(database: Database, effects: Effects) -> None:
    await pause(database, "billing")
    await set_limits(database, "billing", Limits(concurrency=0))
    done = await perform(database, effects.registry, "charge", {"order": 7}, partition_key="c")
    assert (done.outcome, done.job.queue, done.job.partition_key) == ("done", "billing", "c")
    assert_enqueued(database, "charge", queue="billing", partition_key="c", state="completed")


async def test_no_worker_is_left_behind(database: Database, effects: Effects) -> None:
    await perform(database, effects.registry, "receipt", {"order": 7})
    assert await query(database, "SELECT FROM docyard.procrastinate_workers") == []


async def test_what_cannot_be_performed_is_refused(database: Database, effects: Effects) -> None:
    with pytest.raises(UnknownKind):
        await perform(database, effects.registry, "unheard")
    with pytest.raises(InvalidInput, match="lock_key means nothing"):
        await perform(database, effects.registry, "receipt", {"order": 7}, lock_key="l")
    with pytest.raises(InvalidInput, match="counted from 1"):
        await perform(database, effects.registry, "receipt", {"order": 7}, attempt=0)
    assert await query(database, "SELECT FROM docyard.procrastinate_jobs") == []
