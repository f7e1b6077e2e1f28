"""Texts of many documents travel in few requests, each once, and nobody waits for company in vain."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from support.coverage import everything_has_its_vector, without_vectors
from support.eventually import eventually
from support.worker_process import worker_process
from support.yards import asking, ingest, open_yard, rows, value

from benchmarks.embed.folder import write_folder
from docyard_queue.queues import pause, resume
from docyard_schema.documents.chunk_identity import embedding_input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard import Docyard

MOST = 64


@pytest.fixture
def provider(embedding_server: EmbeddingServer) -> EmbeddingServer:
    """A provider that takes few texts at once, so that a small folder needs many requests."""
    embedding_server.max_texts = MOST
    embedding_server.latency = 0.05
    return embedding_server


def settings(provider: EmbeddingServer, **more: str) -> dict[str, str]:
    return asking(
        provider,
        DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST=str(provider.max_texts),
        DOCYARD_EMBEDDING_PARALLEL_REQUESTS="4",
        **more,
    )


async def _texts(yard: Docyard) -> dict[int, str]:
    """What is sent for each chunk."""
    found = await rows(yard.database, "SELECT id, heading_path, text FROM docyard.chunks")
    return {chunk: embedding_input(headings, text) for chunk, headings, text in found}


@pytest.mark.slow
async def test_a_folder_takes_little_more_than_the_fewest_requests_and_only_changes_travel_again(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    files = write_folder(tmp_path / "texts", 300, largest=1_000_000)
    async with open_yard(url, settings(provider)) as yard:
        summary = await ingest(yard, tmp_path / "texts")
        assert summary.created == 300
        await everything_has_its_vector(yard)
        counts = provider.counts
        minimum = counts.minimum(MOST, provider.max_tokens)
        assert minimum >= 10
        assert minimum <= counts.requests <= 1.25 * minimum, f"{counts.requests} instead of {minimum}"
        assert counts.sent_again == {}
        assert 1 < counts.most_at_once <= 4

        before = await _texts(yard)
        provider.reset()
        assert (await ingest(yard, tmp_path / "texts")).unchanged == 300
        assert provider.counts.requests == 0

        for path in files[::100]:
            path.write_text(f"{path.read_text()}\n\nAdded to {path.name} since.")
        assert (await ingest(yard, tmp_path / "texts")).updated == 3
        after = await _texts(yard)
        added = [text for chunk, text in after.items() if chunk not in before]
        assert 3 <= len(added) <= 6
        assert sorted(provider.counts.sent.elements()) == sorted(set(added) - set(before.values()))
        await everything_has_its_vector(yard)


async def test_texts_of_many_small_documents_travel_in_one_request(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    for number in range(MOST):
        (tmp_path / f"{number}.txt").write_text(f"Note {number} speaks of nothing else than {number}.")
    async with open_yard(url, settings(provider)) as yard:
        await ingest(yard, tmp_path)
        await everything_has_its_vector(yard)
    assert provider.counts.texts == MOST
    assert provider.counts.requests <= 2, "one that is full, or one cut short and its rest"


async def test_equal_texts_of_documents_that_are_on_their_way_together_travel_once(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"The same words are in {number % 4} of four.")
    async with open_yard(url, settings(provider)) as yard:
        summary = await ingest(yard, tmp_path)
        assert (summary.chunks, summary.embedded + summary.reused) == (40, 40)
        await everything_has_its_vector(yard)
    assert set(provider.counts.sent.values()) == {1}
    assert provider.counts.texts == 4


@pytest.mark.slow
async def test_a_lone_upload_does_not_wait_for_company(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    environment = settings(provider, DOCYARD_EMBEDDING_LONGEST_WAIT_SECONDS="60")
    async with open_yard(url, environment) as yard:
        worker = yard.worker()
        async with worker:
            working = asyncio.create_task(worker.run())
            try:
                # The first one opens connections and the provider, and registers the model.
                for name in ("first", "second"):
                    (tmp_path / f"{name}.txt").write_text(f"The {name} note is all alone.")
                    began = time.monotonic()
                    batch = await yard.ingest([tmp_path / f"{name}.txt"])
                    await batch.done(timeout=30)
                    seconds = time.monotonic() - began
            finally:
                worker.stop()
                await working
        assert await without_vectors(yard.database) == 0
    assert seconds < 3, f"{seconds:.1f} s for one text, while a request may wait for 60"


@pytest.mark.slow
async def test_what_is_too_little_for_a_request_goes_after_the_longest_wait(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    # A document that is being read for long could still add to the request, as far as anybody knows.
    environment = settings(provider, DOCYARD_EMBEDDING_LONGEST_WAIT_SECONDS="1")
    (tmp_path / "note.txt").write_text("The note waits for the other document, but not for long.")
    async with open_yard(url, environment) as yard:
        await yard.ingest([tmp_path / "note.txt"])
        await rows(
            yard.database,
            "SELECT docyard.enqueue('ingest', '{\"source\": \"file:///nowhere\"}', queue => 'ingest', "
            "lock_key => 'held')",
        )
        async with yard.database.dedicated() as connection:
            # Nobody can claim it, nor see that it is not to come.
            await connection.execute("BEGIN")
            await connection.execute(
                yard.database.sql("SELECT id FROM docyard.procrastinate_jobs WHERE lock = 'held' FOR UPDATE")
            )
            worker = yard.worker()
            async with worker:
                working = asyncio.create_task(worker.run())
                try:

                    async def has_its_vector() -> bool:
                        return await value(yard.database, "SELECT count(*) FROM docyard.embeddings") == 1

                    await eventually(has_its_vector, seconds=20)
                finally:
                    worker.stop()
                    await working
            await connection.execute("ROLLBACK")
    assert provider.counts.requests == 1


@pytest.mark.slow
@pytest.mark.fault(1)
async def test_a_killed_worker_costs_no_more_than_what_was_on_its_way(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    provider.latency = 0.3
    write_folder(tmp_path / "texts", 200, largest=600_000)
    environment = settings(provider)
    async with open_yard(url, environment) as yard:
        batch = await yard.ingest([tmp_path / "texts"])
        with worker_process(url, tmp_path / "worker.log", environment) as worker:

            async def in_the_middle() -> bool:
                assert worker.alive, worker.log.read_text()
                if await value(yard.database, "SELECT count(*) FROM docyard.embeddings") < 2 * MOST:
                    return False
                worker.freeze()
                return True

            await eventually(in_the_middle, seconds=60, what="some vectors to be written")
            worker.kill()
        await eventually(lambda: not worker.group_alive, what="the parsers of a killed worker to end")
        stored = {
            embedding_input(headings, text)
            for headings, text in await rows(
                yard.database,
                "SELECT chunk.heading_path, chunk.text FROM docyard.chunks AS chunk "
                "JOIN docyard.embeddings AS vector ON vector.chunk_id = chunk.id",
            )
        }
        lost = set(provider.counts.sent) - stored
        # Four on their way, and as many answers that may be on their way into the database.
        assert len(lost) <= 2 * 4 * MOST
        await yard.work()
        assert (await batch.progress()).state == "finished"
        assert await without_vectors(yard.database) == 0
        assert set(provider.counts.sent_again) <= lost
        assert max(provider.counts.sent.values()) <= 2
        assert await value(yard.database, "SELECT max(attempts) FROM docyard.jobs") <= 2


@pytest.mark.slow
async def test_a_worker_that_is_stopped_waits_for_its_answers_and_nothing_is_sent_twice(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    provider.latency = 0.3
    write_folder(tmp_path / "texts", 200, largest=600_000)
    environment = settings(provider)
    async with open_yard(url, environment) as yard:
        batch = await yard.ingest([tmp_path / "texts"])
        with worker_process(url, tmp_path / "worker.log", environment) as worker:

            async def in_the_middle() -> bool:
                assert worker.alive, worker.log.read_text()
                return await value(yard.database, "SELECT count(*) FROM docyard.embeddings") >= 2 * MOST

            await eventually(in_the_middle, seconds=60, what="some vectors to be written")
            assert await asyncio.to_thread(worker.stop) == 0
        await yard.work()
        assert (await batch.progress()).state == "finished"
        await everything_has_its_vector(yard)
    assert provider.counts.sent_again == {}


async def test_documents_that_change_while_their_texts_travel_end_with_the_vectors_of_what_they_say_now(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    provider.latency = 0.2
    files = write_folder(tmp_path / "texts", 60, largest=150_000)
    async with open_yard(url, settings(provider)) as yard, yard.worker() as worker:
        working = asyncio.create_task(worker.run())
        try:
            first = await yard.ingest([tmp_path / "texts"])
            await eventually(lambda: provider.counts.requests >= 1, seconds=30)
            for path in files:
                path.write_text(f"{path.name} says something else now.\n\n{path.read_text()}")
            second = await yard.ingest([tmp_path / "texts"])
            for batch in (first, second):
                assert (await batch.done(timeout=60)).dead == 0
        finally:
            worker.stop()
            await working
        await everything_has_its_vector(yard)
        now = set((await _texts(yard)).values())
        assert now <= set(provider.counts.embedded)
        assert provider.counts.embedded_again == {}
        stale = await value(
            yard.database,
            "SELECT count(*) FROM docyard.embeddings AS vector WHERE NOT EXISTS "
            "(SELECT FROM docyard.chunks AS chunk WHERE chunk.id = vector.chunk_id "
            "AND chunk.content_hash = vector.content_hash)",
        )
        assert stale == 0


@pytest.mark.slow
async def test_a_queue_that_is_paused_in_the_middle_goes_on_where_it_was(
    url: str, tmp_path: Path, provider: EmbeddingServer
) -> None:
    provider.latency = 0.1
    write_folder(tmp_path / "texts", 150, largest=400_000)
    async with open_yard(url, settings(provider)) as yard:
        await yard.ingest([tmp_path / "texts"])
        async with yard.worker() as worker:
            working = asyncio.create_task(worker.run())
            try:
                await eventually(lambda: provider.counts.requests >= 2, seconds=30)
                await pause(yard.database, "embed")
                # What it had claimed it finishes; then it is quiet.
                running = "SELECT count(*) FROM docyard.jobs WHERE kind = 'embed' AND state = 'running'"
                await eventually(_none(yard, running), seconds=30, what="the claimed jobs to end")
                ingesting = "SELECT count(*) FROM docyard.jobs WHERE kind = 'ingest' AND state <> 'completed'"
                await eventually(_none(yard, ingesting), seconds=30, what="the documents to be read")
                asked = provider.counts.requests
                assert await without_vectors(yard.database) > 0
                await resume(yard.database, "embed")

                async def complete() -> bool:
                    return await without_vectors(yard.database) == 0

                await eventually(complete, seconds=30, what="the rest")
                assert provider.counts.requests > asked
            finally:
                worker.stop()
                await working
        await everything_has_its_vector(yard)
    assert provider.counts.sent_again == {}


def _none(yard: Docyard, statement: str) -> Callable[[], Awaitable[bool]]:
    async def none() -> bool:
        return await value(yard.database, statement) == 0

    return none
