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
from support.yards import ingest, open_yard, rows, value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.embedding_server import EmbeddingServer
    from support.reembed_process import Process
    from support.searcher import Searcher

    from docyard import Docyard

QUESTIONS = [
    (query, mode)
    for query in (
        "how does a worker claim jobs",
        "which settings are there for the embedded database",
        "what happens when a process is killed",
        "how are vectors and words fused in a search",
    )
    for mode in ("vector", "hybrid")
]

_VECTORS = (
    "SELECT count(*) FROM docyard.embeddings AS vector JOIN docyard.embedding_models AS model "
    "ON model.id = vector.model_id WHERE model.name = %s"
)


@asynccontextmanager
async def _searched(yard: Docyard) -> AsyncIterator[Searcher]:
    """Somebody searches inside; afterwards each answer must be the old model's, or the new one's after it."""
    old = await answers(yard, QUESTIONS)
    async with searching(yard, QUESTIONS) as searcher:
        yield searcher
        await asyncio.sleep(0.5)
    new = await answers(yard, QUESTIONS)
    assert all(old[question] and new[question] for question in QUESTIONS)
    assert all(old[question] != new[question] for question in QUESTIONS), "the models must differ"
    assert searcher.errors == []
    told = searcher.told_by(old=old, new=new)
    assert set(told) <= {"old", "new"}
    assert ("new", "old") not in set(pairwise(told)), "a search went back to the old model"
    assert told[-1] == "new"


async def _ended_right(yard: Docyard, models: EmbeddingServer) -> None:
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
    assert indexes == [(True,)]


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
        await _ended_right(yard, models)


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
        await _ended_right(yard, models)
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
        await _ended_right(yard, models)
