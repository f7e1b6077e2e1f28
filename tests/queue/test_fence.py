"""Every write that ends an attempt names job and lease; an older lease writes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.queueing import (
    add,
    attempts,
    claim,
    claim_one,
    query,
    row,
    state,
    until_somebody_waits_for_a_lock,
)

from docyard_queue import Cancel, Done, Inspection, NewJob, PostgresEngine, Snooze
from docyard_queue.outcomes import Failure, Outcome

if TYPE_CHECKING:
    from docyard_queue import Job
    from docyard_schema import Database

NO_WAIT = timedelta(0)


def a_failure(retry_in: timedelta | None = NO_WAIT, **fields: Any) -> Failure:
    given: dict[str, Any] = {"code": "exception", "error_class": "E", "message": "m", "traceback": "t"}
    return Failure(**given | fields, retry_in=retry_in)


async def reclaimed(database: Database, **options: Any) -> tuple[Job, Job]:
    """A job whose first lease was lost: the zombie's view of it, and the newer attempt's."""
    zombie = await claim_one(database, **options)
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'todo' WHERE id = %s", zombie.id)
    [newer] = await claim(database)
    assert (newer.id, newer.lease) == (zombie.id, zombie.lease + 1)
    return zombie, newer


@pytest.mark.parametrize(
    "outcome",
    [Done("late"), Snooze(timedelta(hours=1)), Cancel("late"), a_failure(), a_failure(None)],
    ids=["done", "snooze", "cancel", "retry", "dead"],
)
@pytest.mark.fault(2)
async def test_a_zombies_outcome_is_refused_and_the_newer_attempt_untouched(
    database: Database, outcome: Outcome
) -> None:
    zombie, newer = await reclaimed(database)
    before = await row(database, newer.id)
    assert await PostgresEngine(database).settle(zombie, outcome) is False
    assert await row(database, newer.id) == before
    assert await PostgresEngine(database).settle(newer, Done("right"))
    assert (await row(database, newer.id))["result"] == "right"


async def test_a_zombies_release_is_refused(database: Database) -> None:
    zombie, newer = await reclaimed(database)
    assert await PostgresEngine(database).release(zombie, "stopped") is False
    assert await state(database, newer.id) == "running"


async def test_a_zombies_progress_is_not_shown(database: Database) -> None:
    from docyard_queue import Attempt

    zombie, newer = await reclaimed(database)
    await Attempt(zombie, database).report_progress(done=1)
    assert (await row(database, newer.id))["progress"] is None
    await Attempt(newer, database).report_progress(done=2, note="nul \x00")
    assert (await row(database, newer.id))["progress"]["done"] == 2


async def test_of_many_completions_only_the_lost_ones_come_back(database: Database) -> None:
    zombie, newer = await reclaimed(database)
    await add(database, *[NewJob("work")] * 3)
    others = await claim(database)
    lost = await PostgresEngine(database).complete([(zombie, 1), *((job, 2) for job in others)])
    assert lost == [zombie]
    assert await state(database, newer.id) == "running"
    assert [await state(database, job.id) for job in others] == ["completed"] * 3


async def test_both_leases_of_one_job_in_one_completion_are_told_apart(database: Database) -> None:
    zombie, newer = await reclaimed(database)
    assert await PostgresEngine(database).complete([(zombie, "old"), (newer, "new")]) == [zombie]
    assert (await row(database, newer.id))["result"] == "new"


async def test_a_completion_whose_answer_was_lost_may_be_done_again(database: Database) -> None:
    job = await claim_one(database)
    assert await PostgresEngine(database).complete([(job, 1)]) == []
    assert await PostgresEngine(database).complete([(job, 1)]) == []
    assert await PostgresEngine(database).complete([(job._replace(lease=99), 1)]) != []


# What a finish must survive


@pytest.mark.parametrize(
    "text", ["NUL \x00", "half \ud800", "x" * 5_000_000, ""], ids=["nul", "half", "huge", "empty"]
)
@pytest.mark.fault(18)
async def test_any_error_text_can_be_kept(database: Database, text: str) -> None:
    job = await claim_one(database)
    failure = a_failure(None, message=text, traceback=text, error_class=text[:500], code=text[:500])
    assert await PostgresEngine(database).settle(job, failure)
    stored = await row(database, job.id)
    assert await state(database, job.id) == "dead"
    assert len(stored["error_message"]) <= 2000
    [told] = await query(database, "SELECT * FROM docyard.job_attempts WHERE job_id = %s", job.id)
    assert len(told["traceback"]) <= 20_000


async def test_of_a_long_traceback_the_end_is_kept(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).settle(job, a_failure(traceback="deep\n" * 50_000 + "ValueError: here"))
    [told] = await query(database, "SELECT traceback FROM docyard.job_attempts")
    assert told["traceback"].endswith("ValueError: here")


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (None, None),
        ({"a": [1, "ü"]}, {"a": [1, "ü"]}),
        ({"a": "nul \x00", "b\x00": "\\u0000"}, {"a": "nul \ufffd", "b\ufffd": "\\u0000"}),
        (["half \ud83d", "whole \U0001f600"], ["half ?", "whole \U0001f600"]),
        ({1, 2}, "{1, 2}"),
        (float("inf"), "inf"),
        (_Unprintable(), "<_Unprintable, whose repr raised RuntimeError>"),
        (10**5000, "<int, whose repr raised ValueError>"),
    ],
    ids=["none", "json", "nul", "half", "set", "infinity", "unprintable", "long number"],
)
@pytest.mark.fault(18)
async def test_any_result_can_be_kept(database: Database, result: Any, kept: Any) -> None:
    job = await claim_one(database)
    assert await PostgresEngine(database).complete([(job, result)]) == []
    assert (await row(database, job.id))["result"] == kept


async def test_of_a_result_that_is_too_large_the_beginning_is_kept(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).complete([(job, ["x" * 2_000_000])])
    kept = (await row(database, job.id))["result"]
    assert kept.startswith("['xxx")
    assert len(kept) == 2000


@pytest.mark.parametrize("delay", [timedelta.max, timedelta.min], ids=["forever", "long ago"])
async def test_any_delay_can_be_kept(database: Database, delay: timedelta) -> None:
    job = await claim_one(database)
    assert await PostgresEngine(database).settle(job, Snooze(delay))
    [job] = await claim(database) if delay < NO_WAIT else [await claim_one(database)]
    assert await PostgresEngine(database).settle(job, a_failure(delay))


@pytest.mark.parametrize("outcome", [a_failure(), Snooze(NO_WAIT)], ids=["retry", "snooze"])
@pytest.mark.fault(19)
async def test_a_retry_gives_up_its_unique_key_to_a_waiting_sibling(
    database: Database, outcome: Outcome
) -> None:
    job = await claim_one(database, unique_key="k")
    [sibling] = await add(database, NewJob("work", unique_key="k"))
    assert await PostgresEngine(database).settle(job, outcome)
    assert (await row(database, job.id))["queueing_lock"] is None
    assert (await row(database, sibling))["queueing_lock"] == "k"
    assert await state(database, job.id) == "available"


@pytest.mark.parametrize("outcome", [a_failure(), Snooze(NO_WAIT)], ids=["retry", "snooze"])
@pytest.mark.fault(19)
async def test_a_retry_gives_up_its_key_also_when_the_sibling_comes_in_the_same_moment(
    database: Database, url: str, outcome: Outcome
) -> None:
    job = await claim_one(database, unique_key="k")
    async with await psycopg.AsyncConnection.connect(url) as sibling:
        # Not committed: the retry does not see it, and waits for it at the unique index.
        await sibling.execute(
            "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, queueing_lock, args) "
            "VALUES ('default', 'work', 'k', %s)", [Jsonb({})]
        )  # fmt: skip
        settling = asyncio.create_task(PostgresEngine(database).settle(job, outcome))
        await until_somebody_waits_for_a_lock(url)
        await sibling.commit()
    assert await asyncio.wait_for(settling, 10)
    assert (await row(database, job.id))["queueing_lock"] is None
    assert len(await attempts(database, job.id)) == 1


# What the outcomes mean


async def test_a_snooze_gives_the_attempt_back(database: Database) -> None:
    job = await claim_one(database)
    await PostgresEngine(database).settle(job, Snooze(timedelta(hours=1), "not yet"))
    stored = await row(database, job.id)
    assert (stored["attempts"], stored["lease"], stored["worker_id"]) == (0, 1, None)
    assert await state(database, job.id) == "scheduled"
    [told] = await attempts(database, job.id)
    assert (told["outcome"], told["error_message"]) == ("snoozed", "not yet")


async def test_a_failed_last_attempt_is_dead_whatever_the_worker_thought(database: Database) -> None:
    job = await claim_one(database, max_attempts=1)
    await PostgresEngine(database).settle(job, a_failure(timedelta(hours=1)))
    assert await state(database, job.id) == "dead"


@pytest.mark.parametrize("outcome", [a_failure(), Snooze(NO_WAIT)], ids=["retry", "snooze"])
async def test_a_cancel_that_was_asked_for_wins_over_another_attempt(
    database: Database, outcome: Outcome
) -> None:
    job = await claim_one(database)
    assert await Inspection(database).cancel([job.id]) == {job.id: True}
    await PostgresEngine(database).settle(job, outcome)
    stored = await row(database, job.id)
    assert await state(database, job.id) == "cancelled"
    assert (stored["attempts"], stored["abort_requested"]) == (1, False)
    assert stored["finished_at"] is not None


async def test_what_ends_completed_before_its_cancel_stays_completed(database: Database) -> None:
    job = await claim_one(database)
    await Inspection(database).cancel([job.id])
    assert await PostgresEngine(database).complete([(job, None)]) == []
    assert await state(database, job.id) == "completed"
