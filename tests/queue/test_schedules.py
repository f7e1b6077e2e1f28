"""Schedules: each moment once, by the database's clock, and a rule for moments that were missed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import procrastinate
import psycopg
import pytest
from conftest import opened
from psycopg import sql
from pydantic import BaseModel
from support.queueing import query

from docyard_queue import NewJob, Registry, enqueue
from docyard_queue.procrastinate_tasks import take_over
from docyard_queue.schedules import Schedule, fire_due
from docyard_schema import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_schema import Database


def nightly(**options: Any) -> Schedule:
    return Schedule(**({"name": "nightly", "kind": "nightly", "cron": "0 3 * * *"} | options))


@asynccontextmanager
async def at(url: str, moment: str) -> AsyncIterator[Database]:
    """The database when it is this moment there, in UTC."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET docyard.now = {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(f"{moment}+00")
            )
        )
    async with opened(url) as database:
        yield database


async def fire(url: str, moment: str, *schedules: Schedule) -> list[str]:
    """What one look at this moment enqueues."""
    async with at(url, moment) as database:
        fired, _ = await fire_due(database, schedules)
        return [one.moment.strftime("%d %H:%M") for one in fired]


async def test_a_schedule_begins_with_its_first_moment_after_it_was_first_seen(url: str) -> None:
    assert await fire(url, "2026-01-01 12:00", nightly()) == []
    assert await fire(url, "2026-01-02 02:59:59", nightly()) == []
    assert await fire(url, "2026-01-02 03:00", nightly()) == ["02 03:00"]
    assert await fire(url, "2026-01-02 03:00:01", nightly()) == []


async def test_a_schedule_first_seen_at_its_very_moment_fires(url: str) -> None:
    assert await fire(url, "2026-01-01 03:00", nightly()) == ["01 03:00"]


async def test_the_job_has_payload_queue_and_fire_time(url: str) -> None:
    schedule = nightly(queue="reports", payload={"depth": 2}, timezone="Europe/Berlin", priority=5)
    await fire(url, "2026-07-01 00:00", schedule)
    async with at(url, "2026-07-01 01:00:02") as database:
        [fired], until_next = await fire_due(database, [schedule])
        [job] = await query(database, "SELECT * FROM docyard.procrastinate_jobs")
    assert job["id"] == fired.job_id
    assert job["args"] == {"depth": 2, "fire_time": "2026-07-01T03:00:00+02:00"}
    assert (job["task_name"], job["queue_name"], job["priority"]) == ("nightly", "reports", 5)
    assert until_next == timedelta(hours=23, minutes=59, seconds=58)


@pytest.mark.parametrize("schedulers", [2, 8])
@pytest.mark.fault(9)
async def test_several_schedulers_at_once_fire_each_moment_once(url: str, schedulers: int) -> None:
    """FAULTS, the queue, 9."""
    schedules = [nightly(), nightly(name="hourly", cron="0 * * * *", missed="all")]
    for schedule in schedules:
        await fire(url, "2026-01-01 23:30", schedule)
    async with at(url, "2026-01-02 03:00") as first, opened(url) as second:
        looks = await asyncio.gather(
            *(fire_due(database, schedules) for database in [first, second] * (schedulers // 2))
        )
        jobs = await query(first, "SELECT args ->> 'fire_time' AS moment FROM docyard.procrastinate_jobs")
    fired = [(one.schedule, one.moment.hour) for found, _ in looks for one in found]
    assert sorted(fired) == [("hourly", 0), ("hourly", 1), ("hourly", 2), ("hourly", 3), ("nightly", 3)]
    assert len(jobs) == 5


@pytest.mark.fault(9)
async def test_a_moment_whose_taker_dies_is_taken_by_the_next(url: str) -> None:
    await fire(url, "2026-01-01 12:00", nightly())
    async with at(url, "2026-01-02 03:00") as database, database.dedicated() as dying:
        # The first scheduler has taken it, and its connection breaks before the commit.
        await dying.set_autocommit(False)
        await dying.execute(
            database.sql(
                "INSERT INTO docyard.procrastinate_periodic_defers (task_name, defer_timestamp) "
                "VALUES ('nightly', extract(epoch FROM docyard.clock()))"
            )
        )
        second = asyncio.create_task(fire_due(database, [nightly()]))
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done, "it does not run past one that may still commit"
        await dying.rollback()
        fired, _ = await asyncio.wait_for(second, 10)
    assert len(fired) == 1


async def test_a_failing_enqueue_does_not_use_up_the_moment(url: str) -> None:
    await fire(url, "2026-01-01 12:00", nightly())
    async with at(url, "2026-01-02 03:00") as database:
        await query(
            database,
            "ALTER TABLE docyard.procrastinate_jobs ADD CONSTRAINT full_disk CHECK (task_name <> 'nightly')",
        )
        with pytest.raises(psycopg.errors.CheckViolation):
            await fire_due(database, [nightly()])
        await query(database, "ALTER TABLE docyard.procrastinate_jobs DROP CONSTRAINT full_disk")
        fired, _ = await fire_due(database, [nightly()])
    assert len(fired) == 1


async def test_a_clock_that_is_set_back_fires_nothing_twice(url: str) -> None:
    await fire(url, "2026-01-01 12:00", nightly())
    assert await fire(url, "2026-01-02 03:00", nightly()) == ["02 03:00"]
    assert await fire(url, "2026-01-02 02:00", nightly()) == []
    assert await fire(url, "2026-01-02 03:00", nightly()) == []
    assert await fire(url, "2026-01-03 03:00", nightly()) == ["03 03:00"]


@pytest.mark.parametrize(
    ("missed", "made_up"),
    [("skip", []), ("once", ["04 03:00"]), ("all", ["02 03:00", "03 03:00", "04 03:00"])],
)
async def test_moments_missed_while_no_worker_ran(url: str, missed: Any, made_up: list[str]) -> None:
    schedule = nightly(missed=missed)
    await fire(url, "2026-01-01 12:00", schedule)
    assert await fire(url, "2026-01-04 09:00", schedule) == made_up
    assert await fire(url, "2026-01-04 09:01", schedule) == []
    assert await fire(url, "2026-01-05 03:00:02", schedule) == ["05 03:00"]


@pytest.mark.parametrize("missed", ["once", "all"])
async def test_nothing_is_made_up_for_that_was_missed_too_long_ago(url: str, missed: Any) -> None:
    schedule = nightly(missed=missed, look_back=timedelta(hours=3))
    await fire(url, "2026-01-01 12:00", schedule)
    assert await fire(url, "2026-01-04 09:00", schedule) == []
    assert await fire(url, "2026-01-05 05:59", schedule) == ["05 03:00"]


async def test_making_up_for_all_is_bounded(url: str) -> None:
    schedule = nightly(cron="* * * * *", missed="all")
    await fire(url, "2026-01-01 12:00", schedule)
    assert len(await fire(url, "2026-01-03 12:00", schedule)) == 1000


async def test_what_was_dealt_with_is_forgotten_after_a_day(url: str) -> None:
    for day in range(1, 6):
        await fire(url, f"2026-01-0{day} 03:00", nightly())
    async with opened(url) as database:
        kept = await query(database, "SELECT 1 FROM docyard.procrastinate_periodic_defers")
    assert len(kept) == 2


async def test_a_moment_whose_unique_key_still_waits_adds_no_job(url: str) -> None:
    schedule = nightly(unique_key="one report at a time")
    await fire(url, "2026-01-01 12:00", schedule)
    await fire(url, "2026-01-02 03:00", schedule)
    await fire(url, "2026-01-03 03:00", schedule)
    async with opened(url) as database:
        jobs = await query(database, "SELECT args ->> 'fire_time' AS moment FROM docyard.procrastinate_jobs")
    assert [job["moment"] for job in jobs] == ["2026-01-02T03:00:00+00:00"]


# The registry.


def test_a_schedule_makes_its_function_the_handler_of_its_name() -> None:
    registry = Registry()

    class Night(BaseModel):
        fire_time: str

    @registry.schedule("nightly", cron="0 3 * * *", queue="reports", payload={"depth": 2})
    async def nightly(attempt: Any, payload: Night) -> None: ...

    assert registry["nightly"].run is nightly
    assert registry["nightly"].queue == "reports"
    [schedule] = registry.schedules
    assert (schedule.kind, schedule.queue, schedule.missed) == ("nightly", "reports", "once")


def test_a_handler_may_have_several_schedules() -> None:
    registry = Registry()

    @registry.schedule("weekly", cron="0 3 * * 0", payload={"full": True})
    @registry.schedule("nightly", cron="0 3 * * *")
    @registry.handler("report", queue="reports", max_attempts=2)
    async def report(attempt: Any, payload: Any) -> None: ...

    assert [(one.name, one.kind, one.queue) for one in registry.schedules] == [
        ("nightly", "report", "reports"),
        ("weekly", "report", "reports"),
    ]
    assert [spec.kind for spec in registry] == ["report"]


def test_included_registries_bring_their_schedules() -> None:
    one, other = Registry(), Registry()
    one.schedule("nightly", cron="0 3 * * *")(lambda attempt, payload: None)
    other.schedule("hourly", cron="@hourly")(lambda attempt, payload: None)
    assert [schedule.name for schedule in one.include(other).schedules] == ["nightly", "hourly"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cron": "0 3 * *"}, "cron expression of the schedule 'nightly'"),
        ({"timezone": "Mars/Base"}, "time zone of the schedule 'nightly'"),
        ({"missed": "twice"}, "missed of the schedule 'nightly'"),
        ({"look_back": timedelta(0)}, "look_back of the schedule 'nightly'"),
        ({"payload": {"fire_time": 1}}, "payload of the schedule 'nightly'"),
        ({"payload": {"what": object()}}, "jobs of the schedule 'nightly'"),
        ({"queue": "q" * 41}, "jobs of the schedule 'nightly'"),
        ({"name": "n" * 129}, "1 to 128"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_by_name(options: Any, message: str) -> None:
    arguments = {"name": "nightly", "cron": "0 3 * * *"} | options
    registry = Registry()
    with pytest.raises(ConfigError, match=message):
        registry.schedule(**arguments)(lambda attempt, payload: None)
    assert not registry.schedules
    assert not [*registry]


def test_two_schedules_of_one_name_are_refused() -> None:
    registry = Registry()
    registry.schedule("nightly", cron="0 3 * * *")(lambda attempt, payload: None)
    with pytest.raises(ConfigError, match="Two schedules are named 'nightly'"):
        registry.schedule("nightly", cron="0 4 * * *")(lambda attempt, payload: None)


# Periodic tasks of procrastinate.


@pytest.fixture
def app() -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.PsycopgConnector())


async def test_periodic_tasks_are_taken_over_with_their_timestamp(app: procrastinate.App, url: str) -> None:
    @app.periodic(cron="0 3 * * *", periodic_id="deep", queue="slow", task_kwargs={"depth": 2})
    @app.periodic(cron="*/10 * * * *")
    @app.task(name="sweep", queue="sweeps", lock="broom")
    def sweep(timestamp: int, depth: int = 1) -> tuple[int, int]:
        return timestamp, depth

    registry = take_over(app, Registry())
    assert [(one.name, one.periodic_id, one.queue) for one in registry.schedules] == [
        ("sweep", "", "sweeps"),
        ("sweep", "deep", "slow"),
    ]
    await fire(url, "2026-01-02 02:59", *registry.schedules)
    assert await fire(url, "2026-01-02 03:00", *registry.schedules) == ["02 03:00", "02 03:00"]
    async with opened(url) as database:
        jobs = await query(
            database, "SELECT queue_name, args, lock FROM docyard.procrastinate_jobs ORDER BY id"
        )
    moment = 1767322800
    assert [(job["queue_name"], job["args"]) for job in jobs] == [
        ("sweeps", {"timestamp": moment}),
        ("slow", {"timestamp": moment, "depth": 2}),
    ]
    assert jobs[0]["lock"] == "broom"
    assert registry["sweep"].run(None, jobs[1]["args"]) == (moment, 2)


async def test_what_procrastinate_fired_already_is_not_fired_again(app: procrastinate.App, url: str) -> None:
    app.periodic(cron="0 3 * * *")(app.task(name="sweep")(print))
    schedules = take_over(app, Registry()).schedules
    async with at(url, "2026-01-02 03:00:30") as database:
        await query(
            database,
            "SELECT docyard.procrastinate_defer_periodic_job_v2"
            "('default', NULL, NULL, 'sweep', 0, '', 1767322800, '{\"timestamp\": 1767322800}')",
        )
        assert await fire_due(database, schedules) == ([], timedelta(hours=23, minutes=59, seconds=30))
    assert await fire(url, "2026-01-03 03:00", *schedules) == ["03 03:00"]


def test_a_periodic_task_that_is_put_off_is_refused(app: procrastinate.App) -> None:
    app.periodic(cron="0 3 * * *", schedule_in={"minutes": 5})(app.task(name="sweep")(print))
    with pytest.raises(ConfigError, match="periodic task 'sweep'"):
        take_over(app, Registry())


async def test_pruned_jobs_leave_the_moment_taken(url: str) -> None:
    await fire(url, "2026-01-02 03:00", nightly())
    async with at(url, "2026-01-02 03:00") as database:
        await query(database, "DELETE FROM docyard.procrastinate_jobs")
        assert (await fire_due(database, [nightly()]))[0] == []
    with psycopg.connect(url) as connection:
        assert enqueue(connection, NewJob("nightly"))
