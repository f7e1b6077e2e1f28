"""What becomes of embed jobs when the provider answers well, badly, late, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from support import embedding_answers as answers
from support.yards import AT_ONCE, asking, ingest, jobs, open_yard, rows, value

from docyard import Docyard, load_settings
from docyard_queue import Inspection
from docyard_queue.queues import list_queues, resume
from docyard_schema import ModelRepository
from docyard_workers.embed.errors import EmbeddingError

if TYPE_CHECKING:
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard_queue import JobRow


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("Marmots whistle when an eagle comes.")
    return path


def _paragraphs(*words: str) -> str:
    """A text of one chunk per word, with DOCYARD_CHUNK_SIZE=200."""
    return "\n\n".join(f"{word} " * (180 // (len(word) + 1)) for word in words)


async def _embed_job(yard: Docyard) -> JobRow:
    [job] = await jobs(yard, kind="embed")
    return job


async def _outcomes(yard: Docyard, job: JobRow) -> list[str]:
    return [attempt.outcome for attempt in await Inspection(yard.database).attempts(job.id)]


async def test_settings_choose_the_provider_and_the_model_is_recorded(
    url: str, note: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.key = "sk-right"
    environment = asking(embedding_server, DOCYARD_EMBEDDING_API_KEY="sk-right")
    async with open_yard(url, environment) as yard:
        assert (await ingest(yard, note)).embedded == 1
        model = await ModelRepository(yard.database).active()
        assert model is not None
        assert (model.provider, model.dimension, model.state) == ("openai", 64, "active")
        assert embedding_server.last_request["model"] == "text-embedding-3-small"
        assert embedding_server.last_request["dimensions"] == 64
        [hit] = await yard.search("Marmots whistle when an eagle comes.", mode="vector")
        assert hit.similarity == pytest.approx(1, abs=0.001)


async def test_the_clients_own_variables_are_honoured(
    url: str, note: Path, embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding_server.key = "sk-theirs"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    monkeypatch.setenv("OPENAI_BASE_URL", embedding_server.url)
    async with Docyard.open(url, settings=load_settings(environment={}), retry=AT_ONCE) as yard:
        assert (await ingest(yard, note)).embedded == 1
    assert embedding_server.counts.requests == 1


async def test_a_rate_limit_is_waited_for_as_told_and_burns_no_attempt(
    url: str, note: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.script(answers.rate_limited(1), answers.rate_limited(None, milliseconds=200))
    async with open_yard(url, asking(embedding_server)) as yard:
        assert (await ingest(yard, note)).embedded == 1, "the work is not over while a job only waits"
        job = await _embed_job(yard)
        assert (job.state, job.attempts) == ("completed", 1)
        assert await _outcomes(yard, job) == ["completed"], "a short wait is waited in hand"
    assert embedding_server.counts.statuses == {429: 2, 200: 1}
    assert embedding_server.counts.during_cooldown() == 0


@pytest.mark.parametrize(
    "trouble",
    [answers.failing(500), answers.failing(503), answers.truncated(), answers.cut_off(), answers.garbage()],
    ids=["500", "503", "truncated", "cut off", "garbage"],
)
async def test_what_may_pass_is_tried_again(
    url: str, note: Path, embedding_server: EmbeddingServer, trouble: answers.Answer
) -> None:
    embedding_server.script(trouble, trouble)
    async with open_yard(url, asking(embedding_server)) as yard:
        assert (await ingest(yard, note)).embedded == 1
        job = await _embed_job(yard)
        assert (job.state, job.attempts) == ("completed", 1), "in hand at first"
    assert embedding_server.counts.requests == 3, "the client itself tries nothing again"


async def test_what_does_not_pass_fails_the_attempt_and_the_next_one_goes_on(
    url: str, note: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.script(*[answers.failing(500)] * 4)
    async with open_yard(url, asking(embedding_server)) as yard:
        assert (await ingest(yard, note)).embedded == 1
        job = await _embed_job(yard)
        assert await _outcomes(yard, job) == ["failed", "completed"]
    assert embedding_server.counts.requests == 5, "three in the first attempt"


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ([answers.unauthorized()], "OPENAI_API_KEY"),
        ([answers.quota_exhausted()], "Add credit"),
        ([answers.wrong_dimension()] * 3, "got 63"),
        ([answers.failing(404, "The model does not exist.", code="model_not_found")], "the model's name"),
    ],
    ids=["401", "quota", "dimension", "404"],
)
async def test_what_waiting_cannot_mend_pauses_the_queue_and_burns_no_attempt(
    url: str, note: Path, embedding_server: EmbeddingServer, trouble: list[answers.Answer], says: str
) -> None:
    embedding_server.script(*trouble)
    environment = asking(embedding_server, DOCYARD_EMBEDDING_API_KEY="sk-very-secret")
    async with open_yard(url, environment) as yard:
        await ingest(yard, note)
        job = await _embed_job(yard)
        assert (job.state, job.attempts) == ("available", 0)
        [queue] = [queue for queue in await list_queues(yard.database) if queue.paused]
        assert queue.name == "embed"
        assert says in (queue.reason or "")
        told = await rows(yard.database, "SELECT row_to_json(t)::text FROM docyard.job_attempts AS t")
        assert "very-secret" not in str(told) + str(queue)
        assert [hit.title for hit in await yard.search("marmots", mode="text")] == ["note"]
        # A person mended it: the same job does its work.
        await resume(yard.database, "embed")
        await yard.work()
        assert (await _embed_job(yard)).state == "completed"
        assert len(await yard.search("marmots", mode="vector")) == 1


async def test_a_refused_text_is_found_and_costs_no_other_text_its_vector(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.refuse_marker = "poison"
    words = [f"word{number}" for number in range(15)]
    (tmp_path / "note.txt").write_text(_paragraphs(*words[:6], "poison", *words[6:]))
    async with open_yard(url, asking(embedding_server, DOCYARD_CHUNK_SIZE="200")) as yard:
        summary = await ingest(yard, tmp_path)
        assert (summary.chunks, summary.embedded, summary.failed) == (16, 15, 0)
        [(code, text)] = await rows(
            yard.database,
            "SELECT failure.code, chunk.text FROM docyard.embedding_failures AS failure "
            "JOIN docyard.chunks AS chunk ON chunk.id = failure.chunk_id",
        )
        assert code == "text_refused"
        assert "poison" in text
        # 16 texts, halved down to the one: 1 + 2 requests for each of 4 halvings.
        assert embedding_server.counts.requests == 9
        embedding_server.reset()
        (tmp_path / "note.txt").write_text(_paragraphs(*words[:6], "poison", *words[6:], "added"))
        assert (await ingest(yard, tmp_path)).embedded == 1
        assert not any("poison" in text for text in embedding_server.counts.sent), "never sent again"


async def test_what_a_long_document_has_already_is_not_sent_again_when_a_request_fails(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    (tmp_path / "long.txt").write_text(
        "\n".join(f"{number} is followed by {number + 1}." for number in range(9000))
    )
    embedding_server.script(answers.ok(), answers.failing(500), answers.ok(), answers.rate_limited(0.1))
    async with open_yard(url, asking(embedding_server, DOCYARD_CHUNK_SIZE="40")) as yard:
        summary = await ingest(yard, tmp_path)
        assert summary.chunks > 3 * 2048, "several requests"
        job = await _embed_job(yard)
        assert (job.state, job.attempts) == ("completed", 1)
        assert set(embedding_server.counts.embedded.values()) == {1}
        assert await value(yard.database, "SELECT count(*) FROM docyard.embeddings") == summary.chunks


async def test_another_model_in_the_settings_is_refused_and_named(
    url: str, tmp_path: Path, note: Path, embedding_server: EmbeddingServer
) -> None:
    async with open_yard(url) as yard:
        await ingest(yard, note)
    (tmp_path / "other.txt").write_text("Choughs do not whistle at all.")
    async with open_yard(url, asking(embedding_server)) as yard:
        await ingest(yard, tmp_path)
        [job] = await jobs(yard, state="dead")
        assert (job.kind, job.attempts, job.error_code) == ("embed", 1, "model_mismatch")
        for name in ("wordllama", "text-embedding-3-small", "DOCYARD_EMBEDDING_PROVIDER"):
            assert name in (job.error_message or "")
        assert embedding_server.counts.requests == 0, "no text is sent, no money is spent"
        result = await yard.search("whistle", mode="hybrid")
        assert (len(result), result.degraded) == (2, None), "by the model whose vectors are stored"
    async with open_yard(url) as yard:
        await Inspection(yard.database).retry([job.id])
        await yard.work()
        assert len(await yard.search("whistle", mode="vector")) == 2


async def test_the_database_itself_refuses_vectors_of_another_dimension(
    url: str, note: Path, embedding_server: EmbeddingServer
) -> None:
    async with open_yard(url, asking(embedding_server)) as yard:
        await ingest(yard, note)
        with pytest.raises(psycopg.errors.CheckViolation, match="dimension"):
            await rows(
                yard.database,
                "UPDATE docyard.embeddings SET embedding = '[1,2,3]'::pgvector.vector RETURNING chunk_id",
            )


async def test_a_search_goes_by_words_while_the_provider_does_not_answer(
    url: str, note: Path, embedding_server: EmbeddingServer
) -> None:
    async with open_yard(url, asking(embedding_server)) as yard:
        await ingest(yard, note)
        embedding_server.script(answers.failing(503), answers.failing(503))
        result = await yard.search("marmots")
        assert [hit.vector_score for hit in result] == [None]
        assert "503" in (result.degraded or "")
        with pytest.raises(EmbeddingError):
            await yard.search("marmots", mode="vector")
        assert (await yard.search("marmots")).degraded is None
