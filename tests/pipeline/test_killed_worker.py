"""``kill -9`` of workers in the middle of their work: everything is there exactly once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually
from support.worker_process import WorkerProcess, worker_process
from support.yards import WORDLLAMA, asking, open_yard, rows, value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard import Docyard

_RUNNING = "SELECT count(*) FROM docyard.procrastinate_jobs WHERE status = 'doing'"
_DONE = "SELECT count(*) FROM docyard.procrastinate_jobs WHERE status = 'succeeded'"


async def _kill_in_the_middle(yard: Docyard, worker: WorkerProcess, done: int) -> None:
    """Kill it when it has completed ``done`` jobs or more and holds some that it has not."""
    await eventually(lambda: worker.ready, seconds=60, what="the worker to start")

    async def frozen_at_work() -> bool:
        assert worker.alive, worker.log.read_text()
        if await value(yard.database, _DONE) < done:
            return False
        worker.freeze()
        if await value(yard.database, _RUNNING):
            return True
        worker.thaw()
        return False

    await eventually(frozen_at_work, seconds=60, what=f"{done} jobs to be done and others to run")
    worker.kill()
    await eventually(lambda: not worker.group_alive, what="the parsers of a killed worker to end")


async def _everything_is_there_exactly_once(yard: Docyard, files: int) -> None:
    database = yard.database
    counts = await rows(
        database,
        "SELECT (SELECT count(*) FROM docyard.documents), (SELECT count(*) FROM docyard.document_versions), "
        "(SELECT count(DISTINCT source_uri) FROM docyard.documents)",
    )
    assert counts == [(files, files, files)]
    gaps = await rows(
        database,
        "SELECT document_id FROM docyard.chunks GROUP BY document_id "
        "HAVING min(ordinal) <> 0 OR max(ordinal) <> count(*) - 1 OR count(DISTINCT ordinal) <> count(*)",
    )
    assert gaps == []
    vectors = await rows(
        database,
        "SELECT chunk.id, count(vector.chunk_id) FROM docyard.chunks AS chunk "
        "LEFT JOIN docyard.embeddings AS vector ON vector.chunk_id = chunk.id "
        "AND vector.content_hash = chunk.content_hash GROUP BY chunk.id HAVING count(vector.chunk_id) <> 1",
    )
    assert vectors == []
    states = await rows(database, "SELECT state, count(*) FROM docyard.jobs GROUP BY state")
    assert [state for state, _ in states] == ["completed"]
    assert await value(database, "SELECT bool_and(attempts <= max_attempts) FROM docyard.jobs")
    # One embed job per version, for it was enqueued in the transaction that wrote the version.
    assert await value(database, "SELECT count(*) FROM docyard.jobs WHERE kind = 'embed'") <= files


async def _finish(yard: Docyard) -> None:
    # A job that a second crash hit waits some seconds; here they pass at once.
    await rows(
        yard.database,
        "UPDATE docyard.procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo' RETURNING id",
    )
    await yard.work()


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["wordllama", "openai"])
@pytest.mark.fault(1)
async def test_workers_killed_in_the_middle_of_an_ingest_lose_nothing_and_double_nothing(
    url: str, folder: Path, tmp_path: Path, embedding_server: EmbeddingServer, provider: str
) -> None:
    embedding_server.latency = 0.05
    environment: Mapping[str, str] = WORDLLAMA if provider == "wordllama" else asking(embedding_server)
    chance = random.Random(provider)
    async with open_yard(url, environment) as yard:
        batch = await yard.ingest([folder])
        done = 0
        for life in range(3):
            done += chance.randint(5, 30)
            log = tmp_path / f"worker-{life}.log"
            with worker_process(url, log, environment, "--concurrency", "8") as worker:
                await _kill_in_the_middle(yard, worker, done)
        await yard.work()
        await _finish(yard)
        await _everything_is_there_exactly_once(yard, batch.files)
        # Of several jobs in a worker that was killed nobody is blamed; a single one is.
        interrupted = await value(
            yard.database,
            "SELECT count(*) FROM docyard.attempts "
            "WHERE outcome = 'crashed' OR error_message LIKE 'ran beside %%'",
        )
        assert interrupted > 0
        assert (await batch.progress()).state == "finished"
        # And it is a document like any other: the same folder again changes nothing.
        again = await yard.ingest([folder])
        await yard.work()
        assert (await again.summary()).unchanged == batch.files


@pytest.mark.slow
async def test_two_worker_processes_and_two_ingests_of_one_folder_make_one_version_each(
    url: str, folder: Path, tmp_path: Path
) -> None:
    async with open_yard(url) as yard:
        with (
            worker_process(url, tmp_path / "one.log", WORDLLAMA, "--concurrency", "4") as one,
            worker_process(url, tmp_path / "two.log", WORDLLAMA, "--concurrency", "4") as two,
        ):
            await eventually(lambda: one.ready and two.ready, seconds=60, what="both workers to start")
            first = await yard.ingest([folder])
            second = await yard.ingest([folder])
            for batch in (first, second):
                progress = await batch.done(timeout=60)
                assert (progress.dead, progress.cancelled) == (0, 0)
            workers = await value(
                yard.database, "SELECT count(DISTINCT worker_id) FROM docyard.jobs WHERE state = 'completed'"
            )
            assert workers == 2
            assert (one.stop(), two.stop()) == (0, 0)
        await _everything_is_there_exactly_once(yard, first.files)
        assert await value(yard.database, "SELECT count(*) FROM docyard.workers") == 0


@pytest.mark.slow
async def test_a_worker_that_is_asked_to_stop_leaves_nothing_half_done(
    url: str, folder: Path, tmp_path: Path
) -> None:
    async with open_yard(url) as yard:
        batch = await yard.ingest([folder])
        with worker_process(url, tmp_path / "worker.log", WORDLLAMA, "--concurrency", "4") as worker:
            await eventually(lambda: worker.ready, seconds=60)

            async def begun() -> bool:
                return await value(yard.database, _DONE) > 5

            await eventually(begun, seconds=60)
            assert worker.stop() == 0
            await eventually(lambda: not worker.group_alive)
        assert await value(yard.database, _RUNNING) == 0
        assert (
            await value(yard.database, "SELECT count(*) FROM docyard.attempts WHERE outcome = 'crashed'") == 0
        )
        await yard.work()
        await _everything_is_there_exactly_once(yard, batch.files)
