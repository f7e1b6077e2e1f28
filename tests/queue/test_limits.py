"""Limits hold over the whole fleet, whoever claims at the same time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.queueing import KINDS, add, claim, query

from docyard_queue import Job, NewJob, PostgresEngine
from docyard_queue.limits import Limits, Rate, limits_of, set_limits
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from docyard_schema import Database


async def take(database: Database, slots: int = 10, *, worker: int = 1, after: str = "") -> list[Job]:
    claimed = await PostgresEngine(database).claim_limited(
        worker, "default", slots=slots, kinds=KINDS, after=after
    )
    return claimed.jobs


async def finish(database: Database, jobs: list[Job]) -> None:
    assert await PostgresEngine(database).complete([(job, None) for job in jobs]) == []


async def at(database: Database, seconds: float) -> None:
    """Every new transaction of this database begins so many seconds from now."""
    await query(
        database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET docyard.now = %%L', current_database(), "
        f"now() + interval '{seconds} seconds'); END $$",
    )
    await database.pool.drain()


@pytest.mark.fault(22)
@pytest.mark.fault(22)
async def test_two_claimers_never_pass_a_concurrency_limit(database: Database) -> None:
    await set_limits(database, "default", Limits(concurrency=3))
    await add(database, *[NewJob("work") for _ in range(40)])
    running: list[Job] = []
    seen: list[int] = []

    async def claimer(worker: int) -> None:
        while len(seen) < 40:
            jobs = await take(database, worker=worker)
            for job in jobs:
                running.append(job)
                seen.append(job.id)
            assert len(running) <= 3
            if not jobs:
                await asyncio.sleep(0.001)
            for job in jobs:
                # The limit counts a job until its end is committed, so it is forgotten before.
                running.remove(job)
                await finish(database, [job])

    await asyncio.gather(*[claimer(number) for number in range(1, 7)])
    assert sorted(seen) == sorted(set(seen))


async def test_the_fast_claim_leaves_queues_with_limits_alone(database: Database) -> None:
    await set_limits(database, "default", Limits(concurrency=1))
    await add(database, NewJob("work"), NewJob("work", queue="other"))
    assert [job.queue for job in await claim(database)] == ["other"]
    assert len(await take(database)) == 1
    assert await take(database) == []


async def test_a_limit_per_key_leaves_other_keys_and_jobs_without_one_alone(database: Database) -> None:
    await set_limits(database, "default", Limits(key_concurrency=1))
    await add(
        database,
        *[NewJob("work", partition_key="a") for _ in range(3)],
        *[NewJob("work", partition_key="b") for _ in range(3)],
        *[NewJob("work") for _ in range(2)],
    )
    first = await take(database)
    assert sorted(str(job.partition_key) for job in first) == ["None", "None", "a", "b"]
    assert await take(database) == []
    await finish(database, [job for job in first if job.partition_key == "a"])
    assert [job.partition_key for job in await take(database)] == ["a"]


async def test_partitions_take_turns_however_many_jobs_one_of_them_has(database: Database) -> None:
    await add(database, *[NewJob("work", partition_key="backfill") for _ in range(500)])
    await add(database, NewJob("work", partition_key="upload"), NewJob("work"))
    taken = await take(database, 4)
    assert sorted(str(job.partition_key) for job in taken) == ["None", "backfill", "backfill", "upload"]


async def test_who_has_least_running_goes_first(database: Database) -> None:
    await add(database, *[NewJob("work", partition_key="a") for _ in range(10)])
    assert len(await take(database, 5)) == 5
    await add(database, *[NewJob("work", partition_key="b") for _ in range(10)])
    assert [job.partition_key for job in await take(database, 4)] == ["b"] * 4


async def test_priority_comes_before_turns(database: Database) -> None:
    await add(database, *[NewJob("work", partition_key="a", priority=5) for _ in range(3)])
    await add(database, NewJob("work", partition_key="b"))
    assert [job.partition_key for job in await take(database, 3)] == ["a"] * 3


async def test_more_keys_than_a_claim_looks_at_are_reached_one_after_the_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docyard_queue.limited_claim._KEYS", 3)
    await add(database, *[NewJob("work", partition_key=f"k{number}") for number in range(8)])
    engine, after, found = PostgresEngine(database), "", []
    for _ in range(3):
        claimed = await engine.claim_limited(1, "default", slots=10, kinds=KINDS, after=after)
        found += [job.partition_key for job in claimed.jobs]
        after = claimed.last_key
    assert found == [f"k{number}" for number in range(8)]
    assert after == ""


async def test_a_rate_lets_its_amount_through_and_then_what_flows_in(database: Database) -> None:
    await set_limits(database, "default", Limits(rate=Rate(10, timedelta(seconds=60))))
    await add(database, *[NewJob("work") for _ in range(30)])
    await at(database, 0)
    claimed = await PostgresEngine(database).claim_limited(1, "default", slots=20, kinds=KINDS)
    assert len(claimed.jobs) == 10
    assert claimed.again_in == pytest.approx(6, abs=0.01)
    assert await take(database, 20) == []
    await at(database, 18.1)
    assert len(await take(database, 20)) == 3
    await at(database, 3600)
    assert len(await take(database, 20)) == 10, "what was not used is kept up to one amount"


async def test_a_rate_counts_weights_and_a_heavy_job_is_not_passed_by_lighter_ones(
    database: Database,
) -> None:
    await set_limits(database, "default", Limits(rate=Rate(10, timedelta(seconds=60))))
    ids = await add(database, *[NewJob("work", weight=weight) for weight in (4, 4, 4, 1)])
    await at(database, 0)
    assert [job.id for job in await take(database)] == ids[:2]
    await at(database, 13)
    assert [job.id for job in await take(database)] == ids[2:3]


async def test_a_job_that_weighs_more_than_the_whole_rate_runs_alone(database: Database) -> None:
    await set_limits(database, "default", Limits(rate=Rate(10, timedelta(seconds=60))))
    ids = await add(database, NewJob("work", weight=25), NewJob("work"))
    await at(database, 0)
    assert [job.id for job in await take(database)] == ids[:1]
    await at(database, 89)
    assert await take(database) == []
    await at(database, 97)
    assert [job.id for job in await take(database)] == ids[1:]


async def test_a_rate_per_key_holds_back_only_that_key(database: Database) -> None:
    await set_limits(database, "default", Limits(key_rate=Rate(2, timedelta(seconds=60))))
    await add(database, *[NewJob("work", partition_key=key) for key in "aaaaabbb"], NewJob("work"))
    await at(database, 0)
    assert sorted(str(job.partition_key) for job in await take(database)) == ["None", "a", "a", "b", "b"]
    await at(database, 31)
    assert sorted(str(job.partition_key) for job in await take(database)) == ["a", "b"]


async def test_scheduled_jobs_of_a_limited_queue_wait_for_their_time(database: Database) -> None:
    await set_limits(database, "default", Limits(concurrency=5))
    await query(
        database,
        "INSERT INTO docyard.procrastinate_jobs (queue_name, task_name, scheduled_at, partition_key) "
        "SELECT 'default', 'work', now() + make_interval(secs => n), CASE WHEN n %% 2 = 0 THEN 'k' END "
        "FROM generate_series(-1, 10) AS n",
    )
    assert len(await take(database)) == 2


async def test_running_jobs_count_in_a_limit_that_comes_later(database: Database) -> None:
    await add(database, *[NewJob("work") for _ in range(5)])
    assert len(await claim(database, 2)) == 2
    await set_limits(database, "default", Limits(concurrency=3))
    assert len(await take(database)) == 1


async def test_limits_are_kept_and_removed(database: Database) -> None:
    wanted = Limits(
        concurrency=3, key_concurrency=1, rate=Rate(5, timedelta(minutes=1)),
        key_rate=Rate(1, timedelta(seconds=2)), max_depth=10,
    )  # fmt: skip
    await set_limits(database, "default", wanted)
    assert await limits_of(database, "default") == wanted
    await set_limits(database, "default", Limits())
    assert await limits_of(database, "default") == Limits()
    await add(database)
    assert len(await claim(database)) == 1


@pytest.mark.parametrize("bad", [{"concurrency": -1}, {"key_concurrency": 0}, {"max_depth": 0}])
def test_limits_that_cannot_be_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="at least"):
        Limits(**bad)
    with pytest.raises(InvalidInput, match="above zero"):
        Rate(0, timedelta(seconds=1))


async def test_a_paused_queue_with_limits_gives_nothing(database: Database) -> None:
    await set_limits(database, "default", Limits(concurrency=3))
    await query(database, "UPDATE docyard.queues SET paused = true")
    await add(database)
    assert await PostgresEngine(database).limited_queues(None) == []
    assert await take(database) == []
