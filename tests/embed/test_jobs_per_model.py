"""Who stores chunks enqueues one job for each model that is kept up to date; none is missed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from support.eventually import eventually
from support.examples import an_identity
from support.yards import ingest, open_yard, rows, value

from docyard_schema import DocumentRepository, ModelRepository

if TYPE_CHECKING:
    from pathlib import Path

    from docyard import Docyard


async def asked(yard: Docyard, kind: str) -> list[tuple[str, str, Any, Any, float]]:
    """Jobs of this kind: queue, document, model, batch, weight."""
    return await rows(
        yard.database,
        "SELECT queue_name, args ->> 'document_id', args ->> 'model', batch_id, weight "
        "FROM docyard.procrastinate_jobs WHERE task_name = %s ORDER BY id",
        kind,
    )


async def test_the_first_document_asks_for_vectors_of_whatever_model_comes_first(
    url: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Marmots whistle.")
    async with open_yard(url) as yard:
        batch = await yard.ingest([path])
        await yard.work()
        [(queue, _, model, batch_id, weight)] = await asked(yard, "embed")
        assert (queue, model, batch_id, weight) == ("embed", None, batch.id, 1)
        assert await asked(yard, "backfill") == []
        await ingest(yard, path)
        assert len(await asked(yard, "embed")) == 1, "nothing changed"


async def test_every_kept_model_has_a_job_of_its_own_with_the_number_of_texts(
    url: str, tmp_path: Path
) -> None:
    async with open_yard(url) as yard:
        models = ModelRepository(yard.database)
        for name in ("first", "second", "third"):
            await models.register(an_identity(name))
        await models.activate("first")
        await models.activate("second")
        await models.register(an_identity("broken"))
        await models.set_state("broken", "failed")
        path = tmp_path / "a.md"
        path.write_text("\n".join(f"# Part {number}\n\nText {number}.\n" for number in range(3)))
        batch = await yard.ingest([path])
        async with yard.worker(queues=["ingest"]) as worker:
            await worker.drain()
        [(queue, document, model, batch_id, weight)] = await asked(yard, "embed")
        chunks = await value(yard.database, "SELECT count(*) FROM docyard.chunks")
        assert (queue, model, batch_id, weight) == ("embed", "second", batch.id, chunks)
        assert await asked(yard, "backfill") == [
            ("migrate", document, "first", None, chunks),
            ("migrate", document, "third", None, chunks),
        ]


async def test_a_document_that_comes_back_is_asked_for_again(url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Marmots whistle.")
    async with open_yard(url) as yard:
        await ingest(yard, path)
        documents = DocumentRepository(yard.database)
        found = await documents.find("default", path.as_uri())
        assert found is not None
        await documents.remove(found.id)
        await ModelRepository(yard.database).register(an_identity("meanwhile"))
        async with yard.worker(queues=["ingest"]) as worker:
            await yard.ingest([path])
            await worker.drain()
        assert [model for _, _, model, _, _ in await asked(yard, "backfill")] == ["meanwhile"]


async def test_no_document_is_missed_by_a_model_that_is_registered_while_documents_come(
    url: str, tmp_path: Path
) -> None:
    for number in range(120):
        (tmp_path / f"{number:03}.txt").write_text(f"Text {number} about marmots.")
    async with open_yard(url) as yard:
        models = ModelRepository(yard.database)
        await models.register(an_identity("active"))
        await models.activate("active")
        await yard.ingest([tmp_path])
        async with yard.worker(queues=["ingest"], concurrency=8) as worker:
            working = asyncio.create_task(worker.drain())
            count = "SELECT count(*) FROM docyard.chunks"
            await eventually(lambda: value(yard.database, count), seconds=60, what="the first chunk")
            made = [await models.register(an_identity(f"new {number}")) for number in range(6)]
            await working
        before: Counter[str] = Counter()
        for model in made:
            before[model.name] = await value(
                yard.database,
                "SELECT count(DISTINCT document_id) FROM docyard.chunks WHERE id <= %s",
                model.backfill_to,
            )
        jobs_of = Counter(model for _, _, model, _, _ in await asked(yard, "backfill"))
        for model in made:
            both = await value(
                yard.database,
                "SELECT count(*) FROM docyard.procrastinate_jobs AS job "
                "JOIN docyard.chunks AS chunk ON chunk.document_id = (job.args ->> 'document_id')::uuid "
                "WHERE job.args ->> 'model' = %s AND chunk.id <= %s",
                model.name,
                model.backfill_to,
            )
            assert before[model.name] + jobs_of[model.name] == 120, model
            assert both == 0, "what was there before has no job of its own"
        assert any(0 < before[model.name] < 120 for model in made), "some came while documents were stored"
