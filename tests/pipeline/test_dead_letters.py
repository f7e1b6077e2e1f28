"""What cannot be ingested is said at once, with a code, and costs no other file anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from support.yards import WORDLLAMA, ingest, jobs, open_yard

from docyard_queue import Inspection, NewJob, PostgresEngine

if TYPE_CHECKING:
    from pathlib import Path

    from docyard import Docyard


async def _enqueue(yard: Docyard, *payloads: dict[str, object]) -> list[int]:
    made = [NewJob("ingest", payload, queue="ingest") for payload in payloads]
    return await PostgresEngine(yard.database).enqueue(made)


async def test_each_refusal_is_permanent_and_names_its_code(url: str, tmp_path: Path) -> None:
    (tmp_path / "binary.xyz").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "large.txt").write_text("x" * 20_001)
    (tmp_path / "good.txt").write_text("Good.")
    os.mkfifo(tmp_path / "fifo.txt")
    expected = {
        tmp_path / "missing.txt": "source_missing",
        tmp_path / "binary.xyz": "unsupported_media",
        tmp_path / "large.txt": "source_too_large",
        tmp_path / "fifo.txt": "source_unreadable",
        "s3://bucket/key.txt": "unsupported_source",
        tmp_path / "good.txt": None,
    }
    async with open_yard(url, WORDLLAMA | {"DOCYARD_INGEST_MAX_BYTES": "20000"}) as yard:
        ids = await _enqueue(yard, *({"source": str(source)} for source in expected))
        await yard.work()
        found = {job.id: job for job in await jobs(yard, kind="ingest")}
        for job_id, (source, code) in zip(ids, expected.items(), strict=True):
            job = found[job_id]
            assert (job.state, job.error_code, job.attempts) == (
                "completed" if code is None else "dead", code, 1,
            ), (source, job.error_message)  # fmt: skip
        assert [hit.title for hit in await yard.search("good", mode="text")] == ["good"]


async def test_a_payload_that_does_not_fit_is_dead_at_once_and_says_what_is_wrong(url: str) -> None:
    async with open_yard(url) as yard:
        await _enqueue(yard, {"path": "/a.txt"}, {"source": ""}, {"source": "/a.txt", "tags": "one"})
        await yard.work()
        dead = await jobs(yard, state="dead")
        assert [job.error_code for job in dead] == ["permanent"] * 3
        assert "source: Field required" in (dead[0].error_message or "")
        assert "source" in (dead[1].error_message or "")
        assert "tags" in (dead[2].error_message or "")


async def test_a_mended_file_is_taken_up_by_a_retry(url: str, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Good.")
    late = tmp_path / "late.txt"
    late.write_text("It will be gone when the worker comes.")
    async with open_yard(url) as yard:
        batch = await yard.ingest([tmp_path])
        late.unlink()
        await yard.work()
        summary = await batch.summary()
        assert (summary.created, summary.failed) == (1, 1)
        [(job_id, source, code, message)] = summary.failures
        assert (source, code) == (late.as_uri(), "source_missing")
        assert "late.txt" in message
        late.write_text("Marmots whistle.")
        assert await Inspection(yard.database).retry([job_id]) == [job_id]
        await yard.work()
        assert [hit.title for hit in await yard.search("marmots", mode="text")] == ["late"]
        assert (await batch.summary()).failed == 0


async def test_what_the_walk_refuses_is_told_and_is_no_job(url: str, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Good.")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "large.txt").write_text("x" * 20_001)
    async with open_yard(url, WORDLLAMA | {"DOCYARD_INGEST_MAX_BYTES": "20000"}) as yard:
        batch = await yard.ingest([tmp_path, tmp_path / "none"])
        told = {refused.path.name: refused.code for refused in batch.refused}
        assert told == {"photo.jpg": "unsupported", "large.txt": "too_large", "none": "not_found"}
        assert batch.files == 1
        await yard.work()
        assert (await batch.progress()).completed == 2


async def test_a_document_that_kills_its_parser_does_not_kill_the_worker(url: str, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Good.")
    # Nested so deeply that a parser which recurses gives up.
    (tmp_path / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    async with open_yard(url) as yard:
        summary = await ingest(yard, tmp_path)
        assert summary.created + summary.failed == 2
        assert [hit.title for hit in await yard.search("good", mode="text")] == ["good"]
