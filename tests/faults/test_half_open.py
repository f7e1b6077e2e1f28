"""Line 6: connections that stay open and through which nothing comes any more."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from conftest import opened
from psycopg_pool import AsyncConnectionPool
from support.eventually import eventually
from support.queueing import add, query, row, state, states
from support.silent_proxy import SilentProxy
from support.working import AT_ONCE, running

from docyard_queue import Inspection, NewJob, Registry, listener
from docyard_queue.heartbeat import Heartbeat
from docyard_schema import Database, DatabaseSettings
from docyard_schema.answers import PatientConnection, answering_within
from docyard_schema.errors import DatabaseUnavailable
from docyard_schema.health import HealthStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.fault(6)


@pytest.fixture
def proxy(url: str) -> Iterator[SilentProxy]:
    with SilentProxy(url) as running:
        yield running


@pytest.fixture
async def through(proxy: SilentProxy) -> AsyncIterator[Database]:
    """A database behind the proxy, whose answers are waited for a second."""
    async with opened(proxy.url, pool_answer_seconds=1, pool_connect_seconds=2) as connected:
        yield connected


async def test_claims_finishes_and_notices_go_on_over_new_connections(
    through: Database, database: Database, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(listener, "_ANSWER_SECONDS", 1.0)
    registry, begun = Registry(), asyncio.Semaphore(0)

    @registry.handler("work", max_attempts=3)
    async def handler(attempt: Any, payload: Any) -> None:
        begun.release()
        await asyncio.sleep(payload.get("seconds", 0))

    async with running(through, registry, poll_seconds=60, heartbeat_seconds=0.5) as worker:
        await add(database, *[NewJob("work", {"seconds": 0.5})] * 5)
        for _ in range(5):
            await begun.acquire()
        proxy.silence()
        await eventually(lambda: worker.completed == 5, what="the finishes")
        assert proxy.swallowed > 0
        # Polling is far: only a listener that listens anew hears of these.
        for expected in (6, 7):
            proxy.silence()
            await eventually(lambda: listening(database), what="a new listener")
            await add(database)
            await eventually(lambda expected=expected: worker.completed == expected)
    assert await states(database) == ["completed"] * 7
    leases = await query(database, "SELECT max(attempts) AS attempts FROM docyard.jobs")
    assert leases == [{"attempts": 1}], "no attempt was counted twice for it"


async def listening(database: Database) -> bool:
    # The silenced listeners still stand at the server: the newest one counts.
    found = await query(
        database,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%' "
        "AND backend_start > clock_timestamp() - interval '3 s'",
    )
    return bool(found)


async def test_a_heartbeat_goes_on_over_a_new_connection_before_three_are_missed(
    through: Database, database: Database, proxy: SilentProxy
) -> None:
    heart = Heartbeat(through, queues=None, seconds=1, on_cancel=lambda _: None)
    await asyncio.to_thread(heart.start)
    await beaten(database)
    proxy.silence()
    silenced = time.monotonic()
    await beaten(database)
    assert time.monotonic() - silenced < 4
    await asyncio.to_thread(heart.stop)
    assert await Inspection(database).workers() == []


async def beaten(database: Database) -> None:
    """The one worker has beaten once more."""
    [before] = await Inspection(database).workers()

    async def again() -> bool:
        found = await Inspection(database).workers()
        return bool(found) and found[0].heartbeat_at > before.heartbeat_at

    await eventually(again)


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_commit_that_falls_silent_is_undone_at_the_server_and_done_once_by_the_next_attempt(
    through: Database, database: Database, proxy: SilentProxy, colour: str
) -> None:
    await query(database, "CREATE TABLE public.effects (job_id bigint)")
    registry = Registry()
    insert = "INSERT INTO public.effects VALUES (%s)"

    @registry.handler("async", max_attempts=3, backoff=AT_ONCE)
    async def commits(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            await connection.execute(insert, [attempt.job.id])
            if attempt.number == 1:
                proxy.silence()

    @registry.handler("sync", max_attempts=3, backoff=AT_ONCE)
    def commits_in_a_thread(attempt: Any, payload: Any) -> None:
        with attempt.commit_sync() as connection:
            connection.execute(insert, [attempt.job.id])
            if attempt.number == 1:
                proxy.silence()

    [job_id] = await add(database, NewJob(colour))
    async with running(through, registry, heartbeat_seconds=0.5):
        # The session of the first attempt still holds the job's row, and its worker lives.
        await eventually(lambda: completed(database, job_id), seconds=20)
    assert await query(database, "SELECT job_id FROM public.effects") == [{"job_id": job_id}]
    assert (await row(database, job_id))["attempts"] == 2


async def completed(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "completed"


async def test_a_handler_that_is_cancelled_in_the_silence_ends(
    through: Database, database: Database, proxy: SilentProxy
) -> None:
    registry, asked = Registry(), asyncio.Event()

    @registry.handler("work", timeout=timedelta(seconds=0.5), max_attempts=1)
    async def handler(attempt: Any, payload: Any) -> None:
        async with through.connection() as connection:
            proxy.silence()
            asked.set()
            await connection.execute("SELECT pg_sleep(60)")

    [job_id] = await add(database)
    async with running(through, registry, heartbeat_seconds=0.5):
        await asked.wait()
        await eventually(lambda: died(database, job_id), seconds=15)


async def died(database: Database, job_id: int) -> bool:
    return await state(database, job_id) == "dead"


async def test_the_session_of_a_handler_that_ran_out_of_time_in_the_silence_keeps_no_job(
    through: Database, database: Database, proxy: SilentProxy
) -> None:
    await query(database, "CREATE TABLE public.effects (job_id bigint)")
    registry = Registry()

    @registry.handler("work", timeout=timedelta(seconds=0.5), max_attempts=3, backoff=AT_ONCE)
    async def handler(attempt: Any, payload: Any) -> None:
        async with attempt.commit() as connection:
            if attempt.number == 1:
                proxy.silence()
            await connection.execute("INSERT INTO public.effects VALUES (%s)", [attempt.job.id])

    # It is cancelled before the limit: psycopg gives the connection up when it cannot cancel the INSERT.
    [job_id] = await add(database)
    async with running(through, registry, heartbeat_seconds=0.5):
        await eventually(lambda: completed(database, job_id), seconds=20)
    assert await query(database, "SELECT job_id FROM public.effects") == [{"job_id": job_id}]


async def test_a_health_check_does_not_wait_for_the_silence_to_end(
    through: Database, proxy: SilentProxy
) -> None:
    proxy.silence()
    health = await through.health_check()
    assert health.status is HealthStatus.UNAVAILABLE
    assert "has not answered for 3 s" in health.reason
    assert health.milliseconds < 5000
    await eventually(lambda: is_healthy(through))


async def is_healthy(database: Database) -> bool:
    return (await database.health_check()).status is HealthStatus.HEALTHY


async def test_an_applications_own_pool_is_limited_while_docyard_uses_it(
    database: Database, proxy: SilentProxy
) -> None:
    settings = DatabaseSettings(pool_answer_seconds=0.5)
    async with AsyncConnectionPool(proxy.url, min_size=1, max_size=1, open=False) as pool:
        shared = await Database.from_pool(pool, settings=settings)
        proxy.silence()
        with pytest.raises(psycopg.OperationalError, match="has not answered"):
            await add(shared)
        [job_id] = await add(shared)
        assert await state(database, job_id) == "available"
        async with pool.connection() as connection:
            assert "wait" not in vars(connection), "it is the application's again"


async def test_what_is_limited_is_silence_and_not_work(through: Database) -> None:
    async with through.connection() as connection:
        # Each row takes its time and fills a packet.
        cursor = await connection.execute(
            "SELECT repeat('x', 20000), pg_sleep(0.25) FROM generate_series(1, 8)"
        )
        assert len(await cursor.fetchall()) == 8
        with pytest.raises(psycopg.OperationalError, match="has not answered for 1 s"):
            await connection.execute("SELECT pg_sleep(5)")
    async with through.connection() as connection:
        await connection.execute("SELECT 1")


async def test_zero_is_no_limit(url: str) -> None:
    async with opened(url, pool_answer_seconds=0) as unlimited, unlimited.connection() as connection:
        assert isinstance(connection, PatientConnection)
        assert connection.answer_seconds is None
        await connection.execute("SELECT 1")


async def test_what_is_known_to_take_long_lifts_the_limit_for_itself(through: Database) -> None:
    async with through.dedicated() as connection:
        with answering_within(connection, None):
            await connection.execute("SELECT pg_sleep(1.5)")
        with pytest.raises(psycopg.OperationalError, match="has not answered"):
            await connection.execute("SELECT pg_sleep(1.5)")


async def test_a_new_connection_that_nobody_answers_is_given_up_in_time(
    through: Database, proxy: SilentProxy
) -> None:
    proxy.deafen()
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="no server answers there"):
        async with through.dedicated():
            pass
    assert time.monotonic() - begun < 6
