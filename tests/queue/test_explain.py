"""Why a job is not running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import add, claim, claim_one, make_due, query
from support.working import running

from docyard_queue import Attempt, Cancel, Inspection, NewJob, PostgresEngine, Registry, Snooze
from docyard_queue.batches import create_batch, pause_batch
from docyard_queue.explain import explain
from docyard_queue.limits import Limits, Rate, set_limits
from docyard_queue.outcomes import Failure
from docyard_queue.queues import pause
from docyard_schema.errors import NotFound

if TYPE_CHECKING:
    from docyard_queue.explain import Explanation
    from docyard_schema import Database

TOMORROW = datetime.now(UTC) + timedelta(days=1)
RETRY = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=timedelta(hours=1))


async def a_worker(
    database: Database,
    queues: list[str] | None = None,
    kinds: list[str] | None = None,
    *,
    silent: int = 0,
    state: str = "running",
) -> None:
    await query(
        database,
        "INSERT INTO docyard.procrastinate_workers (last_heartbeat, heartbeat_seconds, queues, kinds, state) "
        "VALUES (now() - %s * interval '1 s', 5, %s, %s, %s)",
        silent, queues, kinds, state,
    )  # fmt: skip


def codes(explanation: Explanation) -> list[str]:
    return [reason.code for reason in explanation.reasons]


async def test_a_job_that_nothing_holds_is_ready(database: Database) -> None:
    await a_worker(database)
    [job_id] = await add(database)
    explanation = await explain(database, job_id)
    assert (explanation.job_id, explanation.state, codes(explanation)) == (job_id, "available", ["ready"])


async def test_a_paused_queue_is_named_with_its_reason(database: Database) -> None:
    await a_worker(database)
    [job_id] = await add(database, queue="billing")
    await pause(database, "billing", reason="the bank is closed")
    [reason] = (await explain(database, job_id)).reasons
    assert reason.code == "queue_paused"
    assert "billing is paused: the bank is closed" in reason.text


async def test_a_snoozed_job_says_why_and_until_when(database: Database) -> None:
    await a_worker(database)
    engine, again = PostgresEngine(database), timedelta(hours=1)
    job = await claim_one(database, max_attempts=5)
    await engine.settle(job, Snooze(again, "The daily ceiling of $5.00 leaves no room.\nMore words."))
    [reason] = (await explain(database, job.id)).reasons
    assert reason.code == "snoozed"
    assert reason.text.endswith("Z: The daily ceiling of $5.00 leaves no room.")
    await make_due(database)
    [job] = await claim(database)
    await engine.settle(job, RETRY)
    assert "exception: no" in (await explain(database, job.id)).reasons[0].text
    await make_due(database)
    [job] = await claim(database)
    await engine.settle(job, Snooze(again, "Cooling down."))
    [reason] = (await explain(database, job.id)).reasons
    assert (reason.code, reason.until is not None) == ("snoozed", True)
    assert "Cooling down" in reason.text, "not the failure before it"


async def test_a_paused_batch_is_named_with_the_way_on(database: Database) -> None:
    await a_worker(database)
    batch_id = await create_batch(database, "nightly")
    [job_id] = await add(database, NewJob("work", {}, batch_id=batch_id))
    await pause_batch(database, batch_id)
    [reason] = (await explain(database, job_id)).reasons
    assert reason.code == "batch_paused"
    assert f"docyard batches resume {batch_id}" in reason.text


async def test_a_scheduled_job_says_until_when(database: Database) -> None:
    await a_worker(database)
    [job_id] = await add(database, run_at=TOMORROW)
    [reason] = (await explain(database, job_id)).reasons
    assert (reason.code, reason.until) == ("scheduled", TOMORROW)
    assert f"{TOMORROW:%Y-%m-%d %H:%M:%SZ}" in reason.text


async def test_a_failed_job_waits_out_its_backoff_and_a_snoozed_one_its_delay(database: Database) -> None:
    await a_worker(database)
    failed = await claim_one(database)
    await PostgresEngine(database).settle(failed, RETRY)
    snoozed = await claim_one(database)
    await PostgresEngine(database).settle(snoozed, Snooze(timedelta(hours=1)))
    [backoff] = (await explain(database, failed.id)).reasons
    [delay] = (await explain(database, snoozed.id)).reasons
    assert (backoff.code, delay.code) == ("retryable", "snoozed")
    assert "1 attempt (exception: no)" in backoff.text
    for reason in (backoff, delay):
        assert reason.until is not None
        assert timedelta(minutes=59) < reason.until - datetime.now(UTC) <= timedelta(hours=1)


async def test_a_held_lock_names_its_holder_and_how_many_are_ahead(database: Database) -> None:
    await a_worker(database)
    first = await claim_one(database, lock_key="account-7")
    second, third = await add(database, *[NewJob("work", lock_key="account-7")] * 2)
    [held] = (await explain(database, second)).reasons
    assert held.code == "lock_held"
    assert f"Job {first.id} holds lock key 'account-7' and runs on worker 1." in held.text
    [held] = (await explain(database, third)).reasons
    assert "2 jobs of that key are ahead" in held.text
    await PostgresEngine(database).complete([(first, None)])
    [in_line] = (await explain(database, third)).reasons
    assert (in_line.code, f"Job {second} has" in in_line.text) == ("lock_in_line", True)
    assert codes(await explain(database, second)) == ["ready"]


async def test_the_lock_is_explained_as_the_claim_sees_it(database: Database) -> None:
    await a_worker(database)
    await add(database, lock_key="k", run_at=TOMORROW)
    [ready] = await add(database, lock_key="k")
    assert codes(await explain(database, ready)) == ["ready"], "a future job holds nothing"
    [job] = await claim(database)
    assert job.id == ready
    await PostgresEngine(database).settle(job, RETRY)
    [behind] = await add(database, lock_key="k")
    assert codes(await explain(database, behind)) == ["lock_in_line"], "one that began keeps its place"
    assert await claim(database) == []


async def test_without_a_living_worker_there_is_none(database: Database) -> None:
    await a_worker(database, silent=16)
    await a_worker(database, state="stopping")
    [job_id] = await add(database)
    assert codes(await explain(database, job_id)) == ["no_worker"]


async def test_a_queue_that_no_worker_serves_and_a_kind_that_none_knows(database: Database) -> None:
    await a_worker(database, ["mail"], ["other"])
    unserved, unknown, served = await add(
        database, NewJob("work"), NewJob("work", queue="mail"), NewJob("other", queue="mail")
    )
    assert codes(await explain(database, unserved)) == ["queue_unserved"]
    assert codes(await explain(database, unknown)) == ["kind_unknown"]
    assert codes(await explain(database, served)) == ["ready"]
    await a_worker(database, ["mail"])
    assert codes(await explain(database, unknown)) == ["ready"], "one that did not say may know it"


async def test_a_worker_says_which_kinds_it_knows(database: Database) -> None:
    registry = Registry()

    @registry.handler("other")
    async def other(_attempt: object, _payload: dict[str, object]) -> None:
        return None

    [job_id] = await add(database)
    async with running(database, registry):
        assert codes(await explain(database, job_id)) == ["kind_unknown"]
        [stored] = await query(database, "SELECT kinds FROM docyard.procrastinate_workers")
        assert stored["kinds"] == ["other"]


async def test_a_running_job_names_its_worker_and_whether_that_lives(database: Database) -> None:
    await a_worker(database)
    job = await claim_one(database, max_attempts=3)
    [reason] = (await explain(database, job.id)).reasons
    assert reason.text.startswith("Attempt 1 of 3 runs on worker 1 since ")
    await query(database, "DELETE FROM docyard.procrastinate_workers")
    await Inspection(database).cancel([job.id])
    assert codes(await explain(database, job.id)) == ["running", "cancel_requested", "worker_lost"]


async def test_an_ended_job_says_what_became_of_it(database: Database) -> None:
    engine = PostgresEngine(database)
    done, unwanted, died = [await claim_one(database, max_attempts=1) for _ in range(3)]
    await engine.complete([(done, None)])
    await engine.settle(unwanted, Cancel("nobody wants it"))
    await engine.settle(died, RETRY)
    told = [await explain(database, job.id) for job in (done, unwanted, died)]
    assert [codes(explanation) for explanation in told] == [["completed"], ["cancelled"], ["dead"]]
    assert "nobody wants it" in told[1].reasons[0].text
    assert "(exception: no)" in told[2].reasons[0].text


async def test_all_that_holds_a_job_is_told_at_once(database: Database) -> None:
    await claim_one(database, lock_key="k")
    [job_id] = await add(database, lock_key="k", run_at=TOMORROW)
    await pause(database, "default")
    assert codes(await explain(database, job_id)) == ["scheduled", "queue_paused", "lock_held", "no_worker"]


async def test_a_job_that_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound, match="There is no job 7"):
        await explain(database, 7)


async def test_limits_are_named_with_what_holds_them(database: Database) -> None:
    await a_worker(database)
    await set_limits(
        database, "default", Limits(concurrency=1, key_concurrency=1, rate=Rate(1, timedelta(hours=1)))
    )
    first, second = await add(database, *[NewJob("work", partition_key="k")] * 2)
    [job] = (await PostgresEngine(database).claim_limited(1, "default", slots=5, kinds={"work": 3})).jobs
    assert job.id == first
    told = await explain(database, second)
    assert codes(told) == ["queue_limit", "key_limit", "rate_limit"]
    assert f"job {first} first" in told.reasons[0].text
    until = told.reasons[2].until
    assert until is not None
    assert timedelta(minutes=59) < until - datetime.now(UTC) <= timedelta(minutes=60)


async def test_a_cool_down_is_named_with_its_reason_and_end(database: Database) -> None:
    await a_worker(database)
    job = await claim_one(database)
    await Attempt(job, database).cool_down(timedelta(minutes=5), reason="429 from the provider")
    [job_id] = await add(database)
    [reason] = (await explain(database, job_id)).reasons
    assert reason.code == "cooling_down"
    assert "429 from the provider" in reason.text
    assert reason.until is not None
