"""Line 12: a PgBouncer in transaction mode stands between docyard and Postgres."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.pooler import Pooler
from support.queueing import add, attempts, query, row, state, states
from support.scratch_server import ScratchServer
from support.worker_process import worker_process
from support.working import AT_ONCE, drain, running
from support.yards import WORDLLAMA, open_yard

from docyard_queue import Inspection, NewJob, Registry, Snooze, create_batch, enqueue_many
from docyard_schema import Database, DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.fault(12)]


@pytest.fixture(scope="module")
def scratch() -> Iterator[ScratchServer]:
    server = ScratchServer().start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def pooler(scratch: ScratchServer) -> Iterator[Pooler]:
    between = Pooler(scratch).start()
    yield between
    between.stop()


@pytest.fixture
async def direct(scratch: ScratchServer) -> AsyncIterator[str]:
    """The way past the pooler to a new database with the schema."""
    await asyncio.to_thread(scratch.execute, "CREATE DATABASE pooled")
    async with await Database.connect(scratch.local_url("pooled")) as database:
        await database.initialize(migrate_schema=True)
    yield scratch.local_url("pooled")
    await asyncio.to_thread(scratch.execute, "DROP DATABASE pooled WITH (FORCE)")


@pytest.fixture
async def pooled(pooler: Pooler, direct: str) -> AsyncIterator[Database]:
    settings = DatabaseSettings(pooler="transaction", pool_max_size=10)
    async with await Database.connect(pooler.url("pooled"), settings=settings) as database:
        yield await database.initialize()


async def test_jobs_are_enqueued_claimed_run_committed_retried_and_snoozed(pooled: Database) -> None:
    await query(pooled, "CREATE TABLE public.effects (job_id bigint)")
    insert = "INSERT INTO public.effects VALUES (%s)"
    registry = Registry()

    @registry.handler("async", max_attempts=3, backoff=AT_ONCE)
    async def commits(attempt: Any, payload: Any) -> None:
        if attempt.number == 1:
            raise ConnectionResetError
        async with attempt.commit() as connection:
            await connection.execute(insert, [attempt.job.id])
            await attempt.enqueue(NewJob("follow up"), connection=connection)

    @registry.handler("sync", max_attempts=3)
    def commits_in_a_thread(attempt: Any, payload: Any) -> None:
        with attempt.commit_sync() as connection:
            connection.execute(insert, [attempt.job.id])

    @registry.handler("follow up")
    async def follow_up(attempt: Any, payload: Any) -> Any:
        await attempt.report_progress(half=True)
        snoozed = await attempts(pooled, attempt.job.id)
        return "woken" if snoozed else Snooze(AT_ONCE.base)

    ids = await add(pooled, *[NewJob(kind) for kind in ("async", "sync") for _ in range(30)])
    worker = await drain(pooled, registry, concurrency=8, heartbeat_seconds=0.1)
    assert worker.completed == 90
    assert set(await states(pooled)) == {"completed"}
    effects = await query(pooled, "SELECT job_id FROM public.effects ORDER BY job_id")
    assert [effect["job_id"] for effect in effects] == ids
    assert await Inspection(pooled).workers() == []


async def test_unique_keys_batches_and_schedules_work(pooled: Database) -> None:
    registry, ticks, called = Registry(), [], asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None: ...

    @registry.handler("call back")
    async def call_back(attempt: Any, payload: Any) -> None:
        called.set()

    @registry.schedule("tick", cron="* * * * * *")
    async def tick(attempt: Any, payload: Any) -> None:
        ticks.append(payload["fire_time"])

    for scope in ("waiting", "until_done"):
        job = NewJob("work", unique_key=scope, unique_scope=scope)  # type: ignore[arg-type]
        same = await asyncio.gather(*[add(pooled, job) for _ in range(20)])
        assert len({job_id for [job_id] in same}) == 1
    async with pooled.transaction() as connection:
        batch = await create_batch(pooled, "all of it", NewJob("call back"), connection=connection)
        await enqueue_many(connection, [NewJob("work", batch_id=batch)] * 20)
    async with running(pooled, registry, poll_seconds=0.2):
        await asyncio.wait_for(called.wait(), 10)
        await eventually(lambda: len(ticks) >= 2)
    assert len(set(ticks)) == len(ticks)


async def test_it_says_that_it_polls_and_finds_jobs_by_polling(
    pooled: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, seen = Registry(), asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        seen.set()

    async with running(pooled, registry, poll_seconds=0.5):
        await eventually(lambda: "listener.disabled" in capsys.readouterr().out)
        await add(pooled)
        await asyncio.wait_for(seen.wait(), 5)


async def test_with_a_way_past_the_pooler_it_listens(pooler: Pooler, direct: str) -> None:
    settings = DatabaseSettings(pooler="transaction", direct_database_url=direct)  # type: ignore[arg-type]
    registry, seen = Registry(), asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Any, payload: Any) -> None:
        seen.set()

    async with (
        await Database.connect(pooler.url("pooled"), settings=settings) as database,
        running(database, registry, poll_seconds=60),
    ):
        await eventually(lambda: listens(database))
        await add(database)
        await asyncio.wait_for(seen.wait(), 5)


async def listens(database: Database) -> bool:
    return bool(await query(database, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"))


async def test_the_jobs_of_a_killed_worker_run_elsewhere(
    pooler: Pooler, pooled: Database, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio\n"
        "from docyard_queue import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('sleep', max_attempts=3)\n"
        "async def sleep(attempt, payload):\n"
        "    await asyncio.sleep(3600 if attempt.number == 1 else 0)\n"
    )
    environment = {"DOCYARD_POOLER": "transaction", "DOCYARD_HEARTBEAT_SECONDS": "0.5", **WORDLLAMA}
    [job_id] = await add(pooled, NewJob("sleep", max_attempts=3))
    start = [pooler.url("pooled"), tmp_path / "1.log", environment, "--app", "app:registry"]
    with worker_process(*start) as victim:  # type: ignore[arg-type]
        await eventually(lambda: is_(pooled, job_id, "running"), seconds=30)
        victim.kill()
    with worker_process(pooler.url("pooled"), tmp_path / "2.log", environment, "--app", "app:registry"):
        await eventually(lambda: is_(pooled, job_id, "completed"), seconds=30)
    assert (await row(pooled, job_id))["attempts"] == 2


async def is_(database: Database, job_id: int, wanted: str) -> bool:
    return await state(database, job_id) == wanted


async def test_documents_are_ingested_and_found(pooler: Pooler, direct: str, tmp_path: Path) -> None:
    (tmp_path / "marmots.txt").write_text("Marmots whistle when an eagle comes.")
    (tmp_path / "tides.txt").write_text("The moon makes two tides a day.")
    environment = {**WORDLLAMA, "DOCYARD_POOLER": "transaction"}
    async with open_yard(pooler.url("pooled"), environment) as yard:
        batch = await yard.ingest([tmp_path])
        await yard.work()
        assert (await batch.summary()).created == 2
        found = await yard.search("who whistles at an eagle?")
        assert found
        assert "Marmots" in found[0].snippet
