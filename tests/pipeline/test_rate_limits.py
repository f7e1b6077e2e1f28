"""A provider that limits, fails, refuses or lies costs time, and neither vectors nor attempts."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support import embedding_answers as answers
from support.coverage import everything_has_its_vector, outcomes, without_vectors
from support.embedding_limits import RateLimit
from support.eventually import eventually
from support.worker_process import worker_process
from support.yards import asking, ingest, open_yard, rows, value

from benchmarks.embed.folder import write_folder
from docyard_queue.queues import list_queues, resume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard import Docyard

MOST = 32


@pytest.fixture
def provider(embedding_server: EmbeddingServer) -> EmbeddingServer:
    embedding_server.max_texts = MOST
    embedding_server.latency = 0.02
    return embedding_server


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    write_folder(tmp_path / "texts", 150, largest=600_000)
    return tmp_path / "texts"


def settings(provider: EmbeddingServer, **more: str) -> dict[str, str]:
    return asking(
        provider,
        DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST=str(provider.max_texts),
        DOCYARD_EMBEDDING_PARALLEL_REQUESTS="4",
        **more,
    )


@asynccontextmanager
async def working(yard: Docyard) -> AsyncIterator[None]:
    """A worker in this process during the block."""
    async with yard.worker() as worker:
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await task


async def _status(url: str) -> str:
    """What ``docyard status`` says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "docyard", "status"),
        env=os.environ | {"DOCYARD_DATABASE_URL": url, "COLUMNS": "500"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.slow
async def test_while_a_fifth_of_the_requests_is_limited_two_processes_lose_nothing_and_keep_still(
    url: str, tmp_path: Path, texts: Path, provider: EmbeddingServer
) -> None:
    provider.sometimes(0.2, answers.rate_limited(1))
    environment = settings(provider)
    async with open_yard(url, environment) as yard:
        batch = await yard.ingest([texts])
        with (
            worker_process(url, tmp_path / "one.log", environment) as one,
            worker_process(url, tmp_path / "two.log", environment) as two,
        ):
            progress = await batch.done(timeout=120)
            assert (progress.dead, progress.cancelled) == (0, 0)
            assert (one.stop(), two.stop()) == (0, 0)
        await everything_has_its_vector(yard)
        assert await outcomes(yard) <= {"completed", "snoozed"}
    counts = provider.counts
    assert counts.statuses[429] >= 2
    # A request that was on its way when another process was told is nobody's fault.
    assert counts.during_cooldown(grace=0.3) == 0, f"strictly {counts.during_cooldown()}"
    # Equal texts of two documents may be in the hands of both processes at the same time.
    assert set(counts.embedded_again.values()) <= {2}
    assert len(counts.embedded_again) <= 0.02 * len(counts.embedded)


@pytest.mark.slow
async def test_a_provider_with_few_requests_a_minute_is_used_at_its_pace(
    url: str, texts: Path, provider: EmbeddingServer
) -> None:
    provider.requests_per_minute = RateLimit(300, window=1)
    async with open_yard(url, settings(provider)) as yard:
        await ingest(yard, texts)
        await everything_has_its_vector(yard)
    counts = provider.counts
    assert counts.embedded_again == {}
    assert counts.during_cooldown(grace=0.1) == 0
    assert counts.statuses[429] <= counts.statuses[200], "after a pause it begins slowly"


@pytest.mark.slow
async def test_tokens_a_minute_are_kept_too(url: str, texts: Path, provider: EmbeddingServer) -> None:
    provider.tokens_per_minute = RateLimit(1_500_000, window=2)
    async with open_yard(url, settings(provider)) as yard:
        await ingest(yard, texts)
        await everything_has_its_vector(yard)
    assert provider.counts.embedded_again == {}
    assert provider.counts.during_cooldown(grace=0.1) == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [(answers.quota_exhausted(), "quota"), (answers.unauthorized(), "key")],
    ids=["quota", "401"],
)
async def test_what_only_a_person_can_mend_pauses_the_queue_says_so_and_goes_on_when_resumed(
    url: str, texts: Path, provider: EmbeddingServer, answer: answers.Answer, says: str
) -> None:
    provider.sometimes(1, answer)
    async with open_yard(url, settings(provider)) as yard:
        await ingest(yard, texts)
        [paused] = [queue for queue in await list_queues(yard.database) if queue.paused]
        assert paused.name == "embed"
        assert says in (paused.reason or "")
        status = await _status(url)
        assert "paused" in status
        assert says in status
        states = await rows(
            yard.database, "SELECT DISTINCT state, attempts FROM docyard.jobs WHERE kind = 'embed'"
        )
        assert states == [("available", 0)]
        # Those on their way, and what a claim under way still brought; then none.
        assert provider.counts.requests <= 8
        provider.reset()
        await resume(yard.database, "embed")
        await yard.work()
        await everything_has_its_vector(yard)
        assert provider.counts.embedded_again == {}


@pytest.mark.parametrize(
    "trouble",
    [
        answers.failing(500),
        answers.failing(503),
        answers.truncated(),
        answers.cut_off(),
        answers.garbage(),
        answers.too_few(),
        answers.wrong_dimension(),
    ],
    ids=["500", "503", "truncated", "cut off", "garbage", "too few", "dimension"],
)
async def test_what_goes_wrong_once_is_sent_again_and_costs_no_attempt(
    url: str, texts: Path, provider: EmbeddingServer, trouble: answers.Answer
) -> None:
    provider.script(answers.ok(), trouble, answers.ok(), trouble)
    async with open_yard(url, settings(provider)) as yard:
        await ingest(yard, texts)
        await everything_has_its_vector(yard)
    counts = provider.counts
    spoilt_but_200 = counts.statuses[200] - -(-len(counts.sent) // MOST)
    assert len(counts.sent_again) <= 2 * MOST
    assert spoilt_but_200 >= 0


@pytest.mark.slow
async def test_an_answer_that_does_not_come_in_time_is_asked_for_again(
    url: str, texts: Path, provider: EmbeddingServer
) -> None:
    provider.script(answers.slow(5), answers.ok(), answers.slow(5))
    async with open_yard(url, settings(provider, DOCYARD_EMBEDDING_TIMEOUT_SECONDS="0.5")) as yard:
        await ingest(yard, texts)
        await everything_has_its_vector(yard)
    assert 0 < len(provider.counts.sent_again) <= 2 * MOST


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["503", "429", "no answer"])
async def test_an_outage_of_the_provider_burns_no_attempts(
    url: str, texts: Path, provider: EmbeddingServer, kind: str
) -> None:
    outage = {
        "503": answers.failing(503),
        "429": answers.rate_limited(None),
        "no answer": answers.cut_off(),
    }[kind]
    provider.sometimes(1, outage)
    async with open_yard(url, settings(provider)) as yard:
        batch = await yard.ingest([texts])
        async with working(yard):
            await eventually(lambda: provider.counts.requests >= 4, seconds=60, what="it to try four times")
            tried = provider.counts.requests
            waiting = await value(
                yard.database,
                "SELECT count(*) FROM docyard.jobs WHERE kind = 'embed' AND state <> 'completed'",
            )
            assert waiting > 0
            provider.reset()
            progress = await batch.done(timeout=60)
        assert (progress.dead, progress.cancelled) == (0, 0)
        assert await without_vectors(yard.database) == 0
        burnt = await value(
            yard.database, "SELECT count(*) FROM docyard.jobs WHERE kind = 'embed' AND attempts > 1"
        )
        assert burnt <= MOST, f"{burnt} jobs have burnt an attempt"
        assert tried < 50, "it was left alone for longer and longer"
        assert provider.counts.embedded_again == {}


@pytest.mark.parametrize(
    "number", [0.0, float("nan"), float("inf"), None], ids=["zero", "nan", "inf", "null"]
)
async def test_a_vector_that_would_poison_searches_is_its_texts_failure_alone(
    url: str, texts: Path, provider: EmbeddingServer, number: float | None
) -> None:
    provider.script(answers.one_vector(number, position=3))
    async with open_yard(url, settings(provider)) as yard:
        summary = await ingest(yard, texts)
        failed = await rows(yard.database, "SELECT chunk_id, code, message FROM docyard.embedding_failures")
        assert len({chunk for chunk, _, _ in failed}) == 1
        assert failed[0][1] == ("zero_vector" if number == 0 else "not_finite")
        assert await without_vectors(yard.database) == len(failed)
        assert summary.failed == 0
        assert {state for (state,) in await rows(yard.database, "SELECT state FROM docyard.jobs")} == {
            "completed"
        }
