"""Who enqueues: an application in its own transaction, a procrastinate App elsewhere, other handlers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.eventually import eventually
from support.worker_process import worker_process
from support.yards import AT_ONCE, WORDLLAMA, jobs, open_yard, rows, value

from docyard_queue import Inspection, NewJob, Registry, enqueue, enqueue_async
from docyard_schema import ConfigError

if TYPE_CHECKING:
    from docyard import Docyard
    from docyard_queue import Attempt

EXAMPLES = Path(__file__).parents[2] / "examples"

_CHARGES = "SELECT count(*), count(DISTINCT order_id) FROM public.charges"


def _run(url: str, script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        env=os.environ | {"DOCYARD_DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _make_charges(yard: Docyard) -> None:
    async with yard.database.connection() as connection:
        await connection.execute(
            "CREATE TABLE public.charges (order_id bigint NOT NULL, cents bigint NOT NULL, job_id bigint)"
        )


async def test_a_vanilla_procrastinate_app_in_another_process_feeds_ingest(url: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"Marmot number {name}.")
    printed = _run(url, "procrastinate_producer.py", tmp_path / "one.txt", tmp_path / "two.txt")
    async with open_yard(url) as yard:
        waiting = await jobs(yard)
        assert [(str(job.id), job.kind, job.queue, job.state) for job in waiting] == [
            (job_id, "ingest", "ingest", "available") for job_id in printed.split()
        ]
        await yard.work()
        assert {job.state for job in await jobs(yard)} == {"completed"}
        found = await yard.search("marmot", collection="from-procrastinate")
        assert {hit.title for hit in found} == {"one", "two"}


async def test_a_running_worker_hears_of_a_procrastinate_job_at_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Marmot.")
    async with open_yard(url) as yard:
        # A poll would come after a minute.
        environment = WORDLLAMA | {"DOCYARD_POLL_SECONDS": "60"}
        with worker_process(url, tmp_path / "worker.log", environment) as worker:
            await eventually(lambda: worker.ready, seconds=60)
            _run(url, "procrastinate_producer.py", tmp_path / "one.txt")

            async def done() -> bool:
                return [job.state for job in await jobs(yard)] == ["completed", "completed"]

            await eventually(done, seconds=30)


async def test_a_job_exists_if_and_only_if_its_producers_transaction_commits(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (id bigint)")
        connection.commit()
        connection.execute("INSERT INTO orders VALUES (1)")
        enqueue(connection, NewJob("charge", {"order_id": 1}))
        connection.rollback()
        connection.execute("INSERT INTO orders VALUES (2)")
        kept = enqueue(connection, NewJob("charge", {"order_id": 2}))
    async with await psycopg.AsyncConnection.connect(url) as other:
        also = await enqueue_async(other, NewJob("charge", {"order_id": 3}))
        await other.commit()
        await enqueue_async(other, NewJob("charge", {"order_id": 4}))
        await other.rollback()
    async with open_yard(url) as yard:
        assert [job.id for job in await jobs(yard)] == [kept, also]
        assert await rows(yard.database, "SELECT id FROM public.orders") == [(2,)]


async def test_the_examples_charge_runs_beside_docyards_own_jobs(url: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("Marmots whistle.")
    async with open_yard(url) as yard:
        await _make_charges(yard)
        job_id = int(_run(url, "producer.py", 7, 1999))
        nothing = int(_run(url, "producer.py", 8, 0))
        await yard.ingest([tmp_path / "note.txt"])
        arguments = ["--app", "billing:registry"]
        with worker_process(url, tmp_path / "w.log", WORDLLAMA, *arguments, folder=EXAMPLES) as worker:
            await eventually(lambda: worker.ready, seconds=60)

            async def ended() -> bool:
                return {job.state for job in await jobs(yard)} == {"completed", "dead"}

            await eventually(ended, seconds=60)
            assert worker.stop() == 0
        assert await rows(yard.database, "SELECT * FROM public.charges") == [(7, 1999, job_id)]
        states = {job.kind: job.state for job in await jobs(yard) if job.id != nothing}
        assert states == dict.fromkeys(("charge", "receipt", "ingest", "embed"), "completed")
        [receipt] = await jobs(yard, kind="receipt")
        _, result, _ = await Inspection(yard.database).payload_and_result(receipt.id)
        assert result == {"printed": "Receipt of order 7"}
        dead = await Inspection(yard.database).job(nothing)
        assert (dead.state, dead.attempts, dead.error_code) == ("dead", 1, "permanent")


@pytest.mark.slow
@pytest.mark.fault(1)
async def test_effects_happen_exactly_once_however_often_the_worker_is_killed(
    url: str, tmp_path: Path
) -> None:
    orders = 800
    chance = random.Random(7)
    async with open_yard(url) as yard:
        await _make_charges(yard)
        with psycopg.connect(url) as connection:
            for number in range(orders):
                enqueue(connection, NewJob("charge", {"order_id": number, "cents": 1}, queue="billing"))
        arguments = ["--app", "billing:registry", "--concurrency", "8", "--queue", "billing"]
        charged = 0
        for life in range(3):
            log = tmp_path / f"{life}.log"
            with worker_process(url, log, WORDLLAMA, *arguments, folder=EXAMPLES) as worker:
                await eventually(lambda worker=worker: worker.ready, seconds=60)
                least = charged + chance.randint(1, 60)

                async def enough(least: int = least) -> bool:
                    return await value(yard.database, "SELECT count(*) FROM public.charges") >= least

                await eventually(enough, seconds=60)
                worker.kill()
            [(charged, _)] = await rows(yard.database, _CHARGES)
        assert charged < orders, "it was killed in the middle"
        await rows(
            yard.database,
            "UPDATE docyard.procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo' RETURNING id",
        )
        with worker_process(url, tmp_path / "last.log", WORDLLAMA, *arguments, folder=EXAMPLES):

            async def ended() -> bool:
                left = (
                    "SELECT count(*) FROM docyard.jobs WHERE state NOT IN ('completed', 'dead', 'cancelled')"
                )
                return not await value(yard.database, left)

            await eventually(ended, seconds=60)
        assert await rows(yard.database, _CHARGES) == [(orders, orders)]
        receipts = "SELECT count(*), count(DISTINCT args ->> 'order_id') FROM docyard.procrastinate_jobs "
        assert await rows(yard.database, receipts + "WHERE task_name = 'receipt'") == [(orders, orders)]


async def test_a_sync_handler_commits_through_its_lease_too(url: str) -> None:
    registry = Registry()

    @registry.handler("charge", max_attempts=3, backoff=AT_ONCE)
    def charge(attempt: Attempt, payload: dict[str, int]) -> None:
        with attempt.commit_sync({"charged": True}) as connection:
            connection.execute(
                "INSERT INTO public.charges VALUES (%s, %s, %s)",
                [payload["order_id"], attempt.number, attempt.job.id],
            )
            if attempt.number == 1:
                raise ConnectionError("the first attempt breaks off in the middle")

    async with open_yard(url, registry=registry) as yard:
        await _make_charges(yard)
        with psycopg.connect(url) as connection:
            enqueue(connection, registry.job("charge", {"order_id": 5}))
        await yard.work()
        assert await rows(yard.database, "SELECT order_id, cents FROM public.charges") == [(5, 2)]


async def test_an_applications_kind_may_not_hide_docyards(url: str) -> None:
    registry = Registry()

    @registry.handler("ingest")
    async def mine(attempt: Attempt, payload: dict[str, str]) -> None:
        """Never called."""

    async with open_yard(url, registry=registry) as yard:
        with pytest.raises(ConfigError, match="ingest"):
            await yard.work()
