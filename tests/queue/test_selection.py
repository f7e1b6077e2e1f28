"""Many jobs are retried and cancelled by what they are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import add, claim, claim_one, query, row, state, until_somebody_waits_for_a_lock

from docyard_queue import Cancel, NewJob, PostgresEngine, create_batch
from docyard_queue.outcomes import Failure
from docyard_queue.selection import _POSSIBLE, Change, Selection, change_selected, count_selected
from docyard_queue.states import JobState
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database

TOMORROW = datetime.now(UTC) + timedelta(days=1)
DEATH = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=None)
BACKOFF = Failure(code="exception", error_class="E", message="no", traceback="t", retry_in=timedelta(hours=1))


async def one_of_each(database: Database) -> dict[JobState, int]:
    """A job in every state."""
    engine = PostgresEngine(database)
    done, running, died, unwanted, again = [(await claim_one(database)) for _ in range(5)]
    await engine.complete([(done, None)])
    await engine.settle(died, DEATH)
    await engine.settle(unwanted, Cancel("no"))
    await engine.settle(again, BACKOFF)
    scheduled, available = await add(database, NewJob("work", run_at=TOMORROW), NewJob("work"))
    found = dict(
        zip(
            ("completed", "running", "dead", "cancelled", "retryable", "scheduled", "available"),
            (done.id, running.id, died.id, unwanted.id, again.id, scheduled, available),
            strict=True,
        )
    )
    assert {word: await state(database, job_id) for word, job_id in found.items()} == {w: w for w in found}
    return {JobState(word): job_id for word, job_id in found.items()}


async def test_without_a_state_a_retry_takes_what_ended_badly_or_waits_to_be_tried_again(
    database: Database,
) -> None:
    jobs = await one_of_each(database)
    wanted = sorted(jobs[JobState(word)] for word in ("dead", "cancelled", "retryable"))
    assert await count_selected(database, Change.RETRY, Selection(kind="work")) == 3
    assert await change_selected(database, Change.RETRY, Selection(kind="work")) == wanted
    assert [await state(database, job_id) for job_id in wanted] == ["available"] * 3
    assert await state(database, jobs[JobState.SCHEDULED]) == "scheduled"


async def test_without_a_state_a_cancel_takes_all_that_has_not_ended(database: Database) -> None:
    jobs = await one_of_each(database)
    wanted = sorted(jobs[JobState(word)] for word in ("running", "retryable", "scheduled", "available"))
    assert await change_selected(database, Change.CANCEL, Selection(queue="default")) == wanted
    assert (await row(database, jobs[JobState.RUNNING]))["abort_requested"] is True
    assert await state(database, jobs[JobState.AVAILABLE]) == "cancelled"


@pytest.mark.parametrize(
    ("change", "word"), [(change, word) for change in Change for word in _POSSIBLE[change]], ids=str
)
async def test_a_state_chooses_the_jobs_that_the_view_shows_in_it(
    database: Database, change: Change, word: JobState
) -> None:
    jobs = await one_of_each(database)
    assert await change_selected(database, change, Selection(state=word)) == [jobs[word]]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (Change.RETRY, "completed"),
        (Change.RETRY, "running"),
        (Change.CANCEL, "dead"),
        (Change.CANCEL, "doing"),
    ],
)
async def test_a_state_that_cannot_be_changed_so_is_refused(
    database: Database, change: Change, word: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'{word}' cannot be chosen to {change}"):
        await change_selected(database, change, Selection(state=word))


async def test_every_filter_narrows(database: Database) -> None:
    batch = await create_batch(database, "b")
    ids = await add(
        database,
        NewJob("work"),
        NewJob("other"),
        NewJob("work", queue="q"),
        NewJob("work", batch_id=batch),
        NewJob("work"),
    )
    await query(
        database,
        "UPDATE docyard.procrastinate_jobs SET created_at = now() - interval '2 days' WHERE id = %s", ids[4]
    )  # fmt: skip
    for selection, wanted in (
        (Selection(kind="other"), ids[1]),
        (Selection(queue="q"), ids[2]),
        (Selection(batch_id=batch), ids[3]),
        (Selection(older_than=timedelta(days=1)), ids[4]),
    ):
        assert await change_selected(database, Change.CANCEL, selection) == [wanted]
    assert await change_selected(database, Change.CANCEL, Selection(kind="work")) == [ids[0]]


async def test_it_goes_on_batch_by_batch_and_stops_at_the_limit(database: Database) -> None:
    ids = await add(database, *[NewJob("work")] * 25)
    assert await change_selected(database, Change.CANCEL, Selection(), limit=13, batch_size=5) == ids[:13]
    assert await change_selected(database, Change.CANCEL, Selection(), batch_size=5) == ids[13:]
    assert await change_selected(database, Change.CANCEL, Selection()) == []


async def test_of_retried_jobs_with_one_unique_key_one_keeps_it_across_batches(database: Database) -> None:
    engine = PostgresEngine(database)
    jobs = [await claim_one(database, unique_key="k") for _ in range(4)]
    for job in jobs:
        await engine.settle(job, DEATH)
    changed = await change_selected(database, Change.RETRY, Selection(state="dead"), batch_size=2)
    assert changed == [job.id for job in jobs]
    keys = [(await row(database, job_id))["queueing_lock"] for job_id in changed]
    assert keys == ["k", None, None, None]


async def test_a_job_that_was_claimed_while_it_was_chosen_is_asked_to_end(
    database: Database, url: str
) -> None:
    first, second = await add(database, NewJob("work"), NewJob("work"))
    async with database.transaction() as connection:
        await connection.execute(
            database.sql(
                "UPDATE docyard.procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = %s"
            ),
            [first],
        )
        cancelling = asyncio.create_task(change_selected(database, Change.CANCEL, Selection(kind="work")))
        await until_somebody_waits_for_a_lock(url)
    assert await cancelling == [first, second]
    assert (await row(database, first))["abort_requested"] is True


@pytest.mark.fault(13)
async def test_a_batch_that_met_a_deadlock_is_tried_again(database: Database, url: str) -> None:
    first, second = await add(database, NewJob("work"), NewJob("work"))
    lock = database.sql("SELECT FROM docyard.procrastinate_jobs WHERE id = %s FOR UPDATE")
    async with database.transaction() as connection:
        # Somebody's own SQL, the wrong way round. It waits longer, so the bulk is the one to give way.
        await connection.execute(b"SET LOCAL deadlock_timeout = '20s'")
        await connection.execute(lock, [second])
        cancelling = asyncio.create_task(change_selected(database, Change.CANCEL, Selection(kind="work")))
        await until_somebody_waits_for_a_lock(url)
        await connection.execute(lock, [first])
    assert await cancelling == [first, second]


@pytest.mark.fault(13)
async def test_claims_cancels_and_retries_of_the_same_jobs_lose_none(database: Database) -> None:
    ids = await add(database, *[NewJob("work")] * 300)

    async def work() -> None:
        engine = PostgresEngine(database)
        for _ in range(20):
            jobs = await claim(database, 20)
            await engine.complete([(job, None) for job in jobs])

    async with asyncio.timeout(60):
        await asyncio.gather(
            work(),
            work(),
            *[
                change_selected(database, Change.CANCEL, Selection(kind="work"), batch_size=37)
                for _ in range(2)
            ],
            *[
                change_selected(database, Change.RETRY, Selection(kind="work"), batch_size=41)
                for _ in range(2)
            ],
        )
    counted = await query(
        database,
        "SELECT count(*) AS jobs FROM docyard.jobs WHERE state IN ('completed', 'cancelled', 'available')",
    )
    assert counted[0]["jobs"] == len(ids)
