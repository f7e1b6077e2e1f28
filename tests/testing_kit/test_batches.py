"""The kit and batch handlers: one call with several jobs, by perform_batch() and in a drain."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from support.queueing import add, query, row, states

from docyard.testing import AT_ONCE, crash_at, drain, perform, perform_batch
from docyard_queue import AttemptBatch, Cancel, NewJob, RateLimited, Registry, commit_together
from docyard_schema import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database


class Order(BaseModel):
    """What each job is told."""

    n: int


@pytest.fixture
def registry(database: Database) -> Registry:
    """``many`` does what its payloads say, and commits the rest together."""
    made = Registry()

    @made.batch_handler("many", queue="many", size=3, max_attempts=2)
    async def many(batch: AttemptBatch, payloads: list[Order]) -> None:
        for attempt, payload in zip(batch, payloads, strict=True):
            if payload.n < 0:
                batch.settle(attempt, ValueError("below zero"))
            elif payload.n == 0:
                batch.settle(attempt, Cancel("nothing to do"))
            elif payload.n > 100:
                batch.settle(attempt, RateLimited("too many", retry_after=timedelta(minutes=1)))
        async with commit_together(
            database, {attempt: len(batch) for attempt in batch.unsettled}
        ) as connection:
            await connection.execute("INSERT INTO public.calls VALUES (%s)", [len(batch)])

    return made


@pytest.fixture(autouse=True)
async def _calls(database: Database) -> None:
    await query(database, "CREATE TABLE public.calls (jobs int)")


async def calls(database: Database) -> list[int]:
    return [found["jobs"] for found in await query(database, "SELECT jobs FROM public.calls")]


async def test_one_call_says_what_became_of_each(database: Database, registry: Registry) -> None:
    payloads: list[Any] = [{"n": 1}, {"n": -1}, Order(n=0), {"n": 101}, {"n": "?"}]
    done = await perform_batch(database, registry, "many", payloads)
    assert [each.outcome for each in done] == ["done", "failed", "cancelled", "snoozed", "failed"]
    assert (done[0].result, done[1].message, done[4].dead) == (4, "below zero", True)
    assert await calls(database) == [4]
    assert await states(database) == ["completed", "retryable", "cancelled", "scheduled", "dead"]


async def test_one_job_alone_is_a_batch_of_one(database: Database, registry: Registry) -> None:
    done = await perform(database, registry, "many", {"n": 1}, weight=5)
    assert done.require_done().result == 1
    assert done.job.weight == 5


async def test_a_drain_hands_over_together_what_waits_as_far_as_the_size_goes(
    database: Database, registry: Registry
) -> None:
    await add(database, *[NewJob("many", {"n": 5}, queue="many") for _ in range(7)])
    drained = await drain(database, registry)
    assert drained.require_no_errors().done == 7
    assert await calls(database) == [3, 3, 1]


async def test_a_crash_inside_the_commit_undoes_it_and_everything_is_done_again(
    database: Database, registry: Registry
) -> None:
    ids = await add(database, *[NewJob("many", {"n": 5}, queue="many") for _ in range(3)])
    drained = await drain(database, registry, crash=crash_at("in_commit"), backoff=AT_ONCE)
    assert (drained.crashed, drained.done) == (3, 3)
    assert sum(await calls(database)) == 3
    assert {(await row(database, job_id))["attempts"] for job_id in ids} == {1}, "nobody is blamed"


async def test_a_handler_of_single_jobs_takes_no_batch(database: Database) -> None:
    made = Registry()
    made.handler("one")(lambda attempt, payload: None)
    with pytest.raises(InvalidInput, match="one job at a time"):
        await perform_batch(database, made, "one", [{}])
