"""What becomes of a job when its handler returns, raises, or takes too long."""

from __future__ import annotations

import asyncio
import functools
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pydantic import BaseModel
from support.eventually import eventually
from support.queueing import add, attempts, query, row, state, states
from support.working import AT_ONCE, a_worker, drain, running

from docyard_queue import (
    Backoff,
    Cancel,
    Done,
    Inspection,
    LeaseLost,
    NewJob,
    PermanentError,
    RateLimited,
    Registry,
    Snooze,
)
from docyard_schema.errors import DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from docyard_schema import Database

NEVER = timedelta(hours=1)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Exotic(BaseException):
    pass


async def run_one(
    database: Database, handler: Callable[..., Any], payload: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """The row of one job after a drain with this handler."""
    registry = Registry()
    registry.handler("work", **({"backoff": AT_ONCE, "max_attempts": 3} | options))(handler)
    [job_id] = await add(database, NewJob("work", payload or {}))
    await drain(database, registry)
    return await row(database, job_id) | {"state": await state(database, job_id)}


def raising(error: BaseException, *, sync: bool = False) -> Callable[..., Any]:
    async def handler(attempt: Any, payload: Any) -> None:
        raise error

    def sync_handler(attempt: Any, payload: Any) -> None:
        raise error

    return sync_handler if sync else handler


@pytest.mark.parametrize(
    ("returned", "kept"), [(None, None), ({"n": 1}, {"n": 1}), (Done([2]), [2]), (Done(), None), (0, 0)]
)
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_what_is_returned_is_the_result(
    database: Database, returned: Any, kept: Any, sync: bool
) -> None:
    async def handler(attempt: Any, payload: Any) -> Any:
        return returned

    done = await run_one(database, (lambda attempt, payload: returned) if sync else handler)
    assert (done["state"], done["result"], done["attempts"]) == ("completed", kept, 1)
    assert [entry["outcome"] for entry in await attempts(database, done["id"])] == ["completed"]


async def test_a_snooze_gives_the_attempt_back(database: Database) -> None:
    async def handler(attempt: Any, payload: Any) -> Any:
        return Snooze(timedelta(0)) if attempt.job.lease < 4 else attempt.number

    done = await run_one(database, handler, max_attempts=1)
    assert (done["state"], done["attempts"], done["lease"], done["result"]) == ("completed", 1, 4, 1)
    assert [entry["outcome"] for entry in await attempts(database, done["id"])] == ["snoozed"] * 3 + [
        "completed"
    ]


async def test_a_handler_may_cancel_its_job(database: Database) -> None:
    async def handler(attempt: Any, payload: Any) -> Any:
        return Cancel("no longer wanted")

    done = await run_one(database, handler)
    assert (done["state"], done["error_code"], done["error_message"]) == (
        "cancelled",
        "cancelled",
        "no longer wanted",
    )


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_an_exception_is_retried_until_the_last_attempt_and_then_a_dead_letter(
    database: Database, sync: bool
) -> None:
    done = await run_one(database, raising(ValueError("password=hush"), sync=sync))
    assert (done["state"], done["attempts"], done["error_code"]) == ("dead", 3, "exception")
    assert done["error_message"] == "password=***"
    told = await Inspection(database).attempts(done["id"])
    assert [(entry.attempt, entry.outcome, entry.error_class) for entry in told] == [
        (n, "failed", "ValueError") for n in (1, 2, 3)
    ]
    assert all("hush" not in str(entry.traceback) and "raise error" in str(entry.traceback) for entry in told)
    [letter] = await query(database, "SELECT * FROM docyard.dead_letters")
    assert (letter["job_id"], letter["error_message"]) == (done["id"], "password=***")


@pytest.mark.parametrize(
    "error",
    [
        Unprintable(),
        Exotic("exotic"),
        SystemExit(3),
        asyncio.CancelledError(),
        StopIteration(1),
        ValueError("\x00\ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_whatever_a_handler_raises_is_a_failure_of_its_job_alone(
    database: Database, error: BaseException, sync: bool
) -> None:
    done = await run_one(database, raising(error, sync=sync), max_attempts=2)
    assert (done["state"], done["attempts"]) == ("dead", 2)


async def test_a_keyboard_interrupt_in_a_thread_is_the_handlers_own(database: Database) -> None:
    done = await run_one(database, raising(KeyboardInterrupt(), sync=True), max_attempts=2)
    assert (done["state"], done["attempts"]) == ("dead", 2)


@pytest.mark.parametrize(
    "error", [PermanentError("never"), InvalidInput("never")], ids=["permanent", "docyard's own"]
)
async def test_a_permanent_error_is_final_at_once(database: Database, error: Exception) -> None:
    done = await run_one(database, raising(error))
    assert (done["state"], done["attempts"], done["error_code"]) == ("dead", 1, error.code)  # type: ignore[attr-defined]


async def test_a_retryable_error_of_docyards_own_is_retried(database: Database) -> None:
    done = await run_one(database, raising(DatabaseUnavailable("gone")))
    assert (done["state"], done["attempts"], done["error_code"]) == ("dead", 3, "database_unavailable")


async def test_patience_costs_no_attempt(database: Database) -> None:
    seen = []

    async def handler(attempt: Any, payload: Any) -> None:
        seen.append(attempt.number)
        if len(seen) < 3:
            raise RateLimited("slow down\nplease", retry_after=timedelta(0))

    done = await run_one(
        database, handler, max_attempts=1, backoff=Backoff(base=NEVER, cap=NEVER, jitter=False)
    )
    assert (done["state"], seen) == ("completed", [1, 1, 1])
    told = await attempts(database, done["id"])
    assert [entry["error_message"] for entry in told] == ["slow down", "slow down", None]


@pytest.mark.parametrize("asked", [timedelta(minutes=7), None], ids=["as asked", "by the backoff"])
async def test_patience_lasts_as_long_as_it_was_asked_for(
    database: Database, asked: timedelta | None
) -> None:
    registry = Registry()
    seven = Backoff(base=timedelta(minutes=7), jitter=False)
    registry.handler("work", backoff=seven)(raising(RateLimited("slow", retry_after=asked)))
    [job_id] = await add(database)
    async with running(database, registry):
        await eventually(lambda: attempts_told(database, job_id))
    [found] = await query(database, "SELECT scheduled_at - now() AS wait FROM docyard.procrastinate_jobs")
    assert timedelta(minutes=6, seconds=30) < found["wait"] <= timedelta(minutes=7)
    assert await state(database, job_id) == "scheduled"


async def test_each_exception_may_have_its_own_rule(database: Database) -> None:
    rules = {KeyError: None, LookupError: AT_ONCE, PermanentError: AT_ONCE}
    never = Backoff(base=NEVER, cap=NEVER, jitter=False)

    async def attempts_of(error: Exception) -> int:
        done = await run_one(database, raising(error), retry=rules, backoff=never)
        return int(done["attempts"])

    assert await attempts_of(KeyError("first rule that fits: never again")) == 1
    assert await attempts_of(IndexError("second: at once")) == 3
    assert await attempts_of(PermanentError("a rule is stronger than the error's own opinion")) == 3


async def test_a_handler_that_takes_too_long_is_ended(database: Database) -> None:
    ended = []

    async def handler(attempt: Any, payload: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(attempt.number)

    done = await run_one(database, handler, timeout=timedelta(seconds=0.05), max_attempts=2)
    assert (done["state"], done["error_code"], ended) == ("dead", "timeout", [1, 2])
    assert "longer than its 0.05 s" in done["error_message"]


async def test_a_jobs_own_timeout_is_stronger_than_the_handlers(database: Database) -> None:
    registry = Registry()

    @registry.handler("work", timeout=NEVER, max_attempts=1)
    async def handler(attempt: Any, payload: Any) -> None:
        await asyncio.sleep(60)

    await add(database, NewJob("work", timeout=timedelta(seconds=0.05)))
    await drain(database, registry)
    assert await states(database) == ["dead"]


async def test_a_sync_handler_that_takes_too_long_is_given_up_and_cannot_commit(database: Database) -> None:
    refused = []

    def handler(attempt: Any, payload: Any) -> None:
        time.sleep(0.5)
        try:
            with attempt.commit_sync():
                pass
        except LeaseLost:
            refused.append(attempt.number)

    done = await run_one(database, handler, timeout=timedelta(seconds=0.05), max_attempts=1)
    assert (done["state"], done["error_code"]) == ("dead", "timeout")
    while not refused:
        await asyncio.sleep(0.02)


async def test_a_timeout_of_the_handlers_own_is_an_ordinary_failure(database: Database) -> None:
    done = await run_one(database, raising(TimeoutError("the network's")), timeout=NEVER, max_attempts=1)
    assert (done["error_code"], done["error_message"]) == ("exception", "the network's")


async def attempts_told(database: Database, job_id: int) -> list[Any]:
    return await query(database, "SELECT 1 FROM docyard.job_attempts WHERE job_id = %s", job_id)


class Order(BaseModel):
    number: int


async def test_a_payload_arrives_as_the_model_that_the_handler_names(database: Database) -> None:
    async def handler(attempt: Any, payload: Order) -> int:
        return payload.number + 1

    assert (await run_one(database, handler, {"number": "7"}))["result"] == 8


async def test_a_payload_that_does_not_fit_is_permanent_and_not_repeated_in_the_message(
    database: Database,
) -> None:
    async def handler(attempt: Any, payload: Order) -> int:
        return payload.number

    done = await run_one(database, handler, {"number": "a secret"})
    assert (done["state"], done["attempts"], done["error_code"]) == ("dead", 1, "permanent")
    assert "does not fit Order: number: Input should be a valid integer" in done["error_message"]
    assert "secret" not in done["error_message"]


async def test_a_kind_that_is_unknown_after_the_claim_is_given_back(database: Database) -> None:
    registry = Registry()
    registry.handler("work")(raising(ValueError()))
    [job_id] = await add(database)
    async with a_worker(database, registry) as worker:
        del registry._handlers["work"]
        worker.stop()
        await worker._claim()
    stored = await row(database, job_id)
    assert (stored["status"], stored["attempts"]) == ("todo", 0)


async def test_objects_and_wrappers_that_are_async_inside_are_awaited(database: Database) -> None:
    class Charge:
        async def __call__(self, attempt: Any, payload: Any) -> str:
            await asyncio.sleep(0)
            return "object"

    async def inner(name: str, attempt: Any, payload: Any) -> str:
        await asyncio.sleep(0)
        return name

    def wrapper(attempt: Any, payload: Any) -> Any:
        return inner("wrapper", attempt, payload)

    assert (await run_one(database, Charge()))["result"] == "object"
    assert (await run_one(database, functools.partial(inner, "partial")))["result"] == "partial"
    assert (await run_one(database, wrapper))["result"] == "wrapper"


# Commit


async def test_an_error_after_the_commit_changes_nothing(database: Database) -> None:
    async def handler(attempt: Any, payload: Any) -> None:
        async with attempt.commit("kept") as connection:
            await attempt.enqueue(NewJob("elsewhere"), connection=connection)
        raise ValueError("too late")

    done = await run_one(database, handler)
    assert (done["state"], done["result"], done["attempts"]) == ("completed", "kept", 1)
    assert await states(database) == ["completed", "available"]


async def test_an_error_in_the_commit_block_is_retried_without_its_effects(database: Database) -> None:
    async def handler(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            await attempt.enqueue(NewJob("elsewhere"), connection=connection)
            if attempt.number < 3:
                raise ValueError("not yet")

    done = await run_one(database, handler)
    assert (done["state"], done["attempts"]) == ("completed", 3)
    assert await states(database) == ["completed", "available"], "one follow-up, not three"


async def test_a_sync_handler_commits_with_its_twin(database: Database) -> None:
    def handler(attempt: Any, payload: Any) -> None:
        with attempt.commit_sync("kept") as connection:
            connection.execute("CREATE TABLE public.effects AS SELECT %s::bigint AS job_id", [attempt.job.id])

    done = await run_one(database, handler)
    assert (done["state"], done["result"]) == ("completed", "kept")
    assert await query(database, "SELECT * FROM public.effects") == [{"job_id": done["id"]}]


async def test_a_rolled_back_commit_leaves_the_job_to_complete_by_its_return(database: Database) -> None:
    async def handler(attempt: Any, payload: Any) -> str:
        async with attempt.commit("undone"):
            raise psycopg.Rollback
        return "returned"

    done = await run_one(database, handler)
    assert (done["state"], done["result"]) == ("completed", "returned")
