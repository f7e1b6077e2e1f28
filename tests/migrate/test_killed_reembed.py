"""``kill -9`` of a reembed at any point, and the same call again: it ends right, and no search notices."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from support.dying_reembed import STEPS
from support.eventually import eventually
from support.reembed_process import NEW_NAME, OLD_NAME, TO_NEW
from support.searcher import answers, searching
from support.worker_process import worker_process
from support.yards import ingest, open_yard, rows, value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from support.embedding_server import EmbeddingServer
    from support.reembed_process import Process
    from support.searcher import Question, Searcher

    from docyard import Docyard
    from docyard_schema.search import SearchMode

MODES: tuple[SearchMode, ...] = ("vector", "hybrid")
QUESTIONS: list[Question] = [
    (query, mode)
    for query in (
        "how does a worker claim jobs",
        "which settings are there for the embedded database",
        "what happens when a process is killed",
        "how are vectors and words fused in a search",
    )
    for mode in MODES
]
VECTORS_ALONE = [question for question in QUESTIONS if question[1] == "vector"]

_VECTORS = (
    "SELECT count(*) FROM docyard.embeddings AS vector JOIN docyard.embedding_models AS model "
    "ON model.id = vector.model_id WHERE model.name = %s"
)


@asynccontextmanager
async def _searched(yard: Docyard, questions: Sequence[Question] = QUESTIONS) -> AsyncIterator[Searcher]:
    """Somebody searches inside; afterwards each answer must be the old model's, or the new one's after it."""
    old = await answers(yard, questions)
    async with searching(yard, questions) as searcher:
        yield searcher
        await asyncio.sleep(0.5)
    new = await answers(yard, questions)
    assert all(old[question] and new[question] for question in questions)
    assert all(old[question] != new[question] for question in questions), "the models must differ"
    assert searcher.errors == searcher.degraded == []
    told = searcher.told_by(old=old, new=new)
    assert set(told) <= {"old", "new"}
    assert ("new", "old") not in set(pairwise(told)), "a search went back to the old model"
    assert told[-1] == "new"


async def _ended_right(yard: Docyard) -> int:
    """Nothing is missing, left over or broken; returns the number of indexes."""
    states = dict(await rows(yard.database, "SELECT name, state FROM docyard.embedding_models"))
    assert states == {OLD_NAME: "retired", NEW_NAME: "active"}
    coverage = await rows(
        yard.database, "SELECT model, sum(missing), sum(failed) FROM docyard.embedding_coverage GROUP BY 1"
    )
    assert sorted(coverage) == [(NEW_NAME, 0, 0), (OLD_NAME, 0, 0)]
    chunks = await value(yard.database, "SELECT count(*) FROM docyard.chunks")
    assert await value(yard.database, _VECTORS, NEW_NAME) == chunks
    left = "SELECT count(*) FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing', 'failed')"
    assert await value(yard.database, left) == 0
    indexes = await rows(
        yard.database,
        "SELECT i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
        "JOIN pg_am AS a ON a.oid = c.relam WHERE a.amname = 'hnsw'",
    )
    # Another worker than the command does without: so few vectors need none.
    assert set(indexes) <= {(True,)}
    return len(indexes)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_and_started_again_it_ends_right_and_no_search_notices(
    url: str,
    environment: dict[str, str],
    corpus: Path,
    models: EmbeddingServer,
    command: Callable[..., Process],
    step: str,
) -> None:
    async with open_yard(url, environment) as yard:
        await ingest(yard, corpus)
        async with _searched(yard):
            killed = command(*TO_NEW, step=step)
            await eventually(lambda: killed.ended, seconds=60, what=f"the kill at {step}")
            assert killed.code == -signal.SIGKILL, killed.said
            again = command(*TO_NEW)
            await eventually(lambda: again.ended, seconds=60, what="the second call to end")
            assert again.code == 0, again.said
        assert await _ended_right(yard) == 1


@pytest.mark.slow
async def test_killed_while_it_fills_it_sends_only_what_was_on_its_way_again(
    url: str,
    environment: dict[str, str],
    corpus: Path,
    models: EmbeddingServer,
    command: Callable[..., Process],
) -> None:
    async with open_yard(url, environment) as yard:
        await ingest(yard, corpus)
        chunks = await value(yard.database, "SELECT count(*) FROM docyard.chunks")
        models.latency = 0.3
        models.reset()
        async with _searched(yard):
            killed = command(*TO_NEW)

            async def half_filled() -> bool:
                return await value(yard.database, _VECTORS, NEW_NAME) >= chunks // 4

            await eventually(half_filled, seconds=60, what="a part of the vectors")
            killed.kill()
            made = await value(yard.database, _VECTORS, NEW_NAME)
            assert made < chunks, "it was killed too late for this test"
            again = command(*TO_NEW)
            await eventually(lambda: again.ended, seconds=60, what="the second call to end")
            assert again.code == 0, again.said
        assert await _ended_right(yard) == 1
        questions = {query for query, _ in QUESTIONS} | {"docyard"}
        twice = [
            text for text, times in models.counts.embedded.items() if times > 1 and text not in questions
        ]
        assert len(twice) <= models.counts.most_at_once * 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_killed_again_and_again_at_any_moment_it_ends_right_and_no_search_notices(
    url: str,
    environment: dict[str, str],
    corpus: Path,
    models: EmbeddingServer,
    command: Callable[..., Process],
    seed: int,
) -> None:
    chance = random.Random(seed)
    async with open_yard(url, environment) as yard:
        await ingest(yard, corpus)
        models.latency = 0.3
        async with _searched(yard):
            for _life in range(6):
                process = command(*TO_NEW)
                await eventually(
                    lambda process=process: process.ended or "worker.started" in process.said, seconds=60
                )
                await asyncio.sleep(chance.expovariate(2))
                if process.ended:
                    break
                process.kill()
            last = command(*TO_NEW)
            await eventually(lambda: last.ended, seconds=90, what="the last call to end")
            assert last.code == 0, last.said
        assert await _ended_right(yard) == 1


@pytest.mark.slow
async def test_killed_while_documents_come_and_another_worker_works_nothing_lacks_a_vector_afterwards(
    url: str,
    environment: dict[str, str],
    corpus: Path,
    models: EmbeddingServer,
    command: Callable[..., Process],
    tmp_path: Path,
) -> None:
    late = tmp_path / "late"
    late.mkdir()
    texts = [page.read_text() for page in sorted(corpus.iterdir())]
    written = 0

    async def write(yard: Docyard) -> None:
        nonlocal written
        while True:
            page = late / f"{written % 40}.md"
            page.write_text(
                f"# Edition {written}\n\n{texts[written % len(texts)][written % 7 * 300 :][:1500]}"
            )
            await yard.ingest([page], collection="late")
            written += 1
            await asyncio.sleep(0.1)

    async with open_yard(url, environment) as yard:
        await ingest(yard, corpus)
        models.latency = 0.2
        with worker_process(url, tmp_path / "worker.log", environment) as worker:
            await eventually(lambda: worker.ready, seconds=60, what="the other worker")
            writing = asyncio.create_task(write(yard))
            async with _searched(yard, VECTORS_ALONE):
                for _life in range(3):
                    process = command(*TO_NEW)
                    await eventually(
                        lambda process=process: process.ended or "worker.started" in process.said, seconds=60
                    )
                    await asyncio.sleep(0.3)
                    process.kill()
                last = command(*TO_NEW)
                await eventually(lambda: last.ended, seconds=90, what="the last call to end")
                assert last.code == 0, last.said
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            left = "SELECT count(*) = 0 FROM docyard.procrastinate_jobs WHERE status IN ('todo', 'doing')"

            async def done() -> bool:
                return bool(await value(yard.database, left))

            await eventually(done, seconds=60, what="the last documents")
            assert worker.stop() == 0
        assert written > 10
        await _ended_right(yard)


@pytest.mark.slow
async def test_killed_in_place_and_started_again_searches_find_something_all_the_while(
    url: str,
    environment: dict[str, str],
    corpus: Path,
    models: EmbeddingServer,
    command: Callable[..., Process],
) -> None:
    async with open_yard(url, environment) as yard:
        await ingest(yard, corpus)
        models.latency = 0.3
        hybrid = [question for question in QUESTIONS if question[1] == "hybrid"]
        async with searching(yard, hybrid) as searcher:
            killed = command(*TO_NEW, "--strategy", "in-place", "--yes")

            async def begun() -> bool:
                return await value(yard.database, _VECTORS, NEW_NAME) > 0

            await eventually(begun, seconds=60, what="the first vectors")
            killed.kill()
            again = command(*TO_NEW, "--strategy", "in-place", "--yes")
            await eventually(lambda: again.ended, seconds=60, what="the second call to end")
            assert again.code == 0, again.said
            await asyncio.sleep(0.5)
        assert searcher.errors == []
        assert all(answer for _, answer in searcher.heard)
        assert any("still being made" in told for told in searcher.degraded)
        assert (await yard.search(hybrid[0][0])).degraded is None
        states = dict(await rows(yard.database, "SELECT name, state FROM docyard.embedding_models"))
        assert states == {NEW_NAME: "active"}
        chunks = await value(yard.database, "SELECT count(*) FROM docyard.chunks")
        assert await value(yard.database, _VECTORS, NEW_NAME) == chunks
