"""The sweep finds what was left without a vector, and nothing that merely waits or that cannot have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.clock import set_the_clock
from support.examples import an_identity, embed, store
from support.queueing import query
from support.working import drain

from docyard_queue import NewJob, Registry, enqueue_async
from docyard_schema import DocumentRepository, ModelRepository, VectorRepository
from docyard_workers.embed.sweep import KIND, Sweep

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_queue import Done
    from docyard_schema import Database, EmbeddingModel, Stored

NOON = "2026-03-01 12:00+00"
HOUR_LATER = "2026-03-01 13:00+00"
NEXT_DAY = "2026-03-02 13:01+00"
DAY_AFTER = "2026-03-03 13:02+00"


@pytest.fixture
async def model(database: Database) -> EmbeddingModel:
    await set_the_clock(database, NOON)
    return await ModelRepository(database).use(an_identity())


async def sweep(database: Database, **bounds: int) -> Any:
    done: Done = await Sweep(database, **bounds).run(None, {})  # type: ignore[arg-type]
    return done.result


async def jobs(database: Database) -> list[tuple[str, str, str, str, float]]:
    """What a sweep enqueued, as (kind, queue, model, document, weight), in the order of the documents."""
    found = await query(
        database,
        "SELECT task_name, queue_name, args ->> 'model' AS model, args ->> 'document_id' AS document, weight "
        "FROM docyard.procrastinate_jobs WHERE args ? 'swept' ORDER BY 3, 4",
    )
    return [tuple(row.values()) for row in found]


async def swept(database: Database) -> list[str]:
    return [job[3] for job in await jobs(database)]


async def lost(database: Database, name: str, *texts: str, **fields: Any) -> Stored:
    """A document whose job is gone."""
    return await store(database, texts or (f"Text of {name}.",), source_uri=name, **fields)


async def fail(database: Database, model: EmbeddingModel, document: UUID, code: str) -> None:
    [chunk] = await DocumentRepository(database).chunks(document)
    await VectorRepository(database).record_failures(model, [(chunk.id, code, "It was refused.")])


async def test_a_document_without_vectors_and_without_a_job_gets_one_that_weighs_its_texts(
    database: Database, model: EmbeddingModel
) -> None:
    whole = await lost(database, "whole")
    await embed(database, model, [whole])
    half = await lost(database, "half", "One.", "Two.", "Three.")
    await set_the_clock(database, HOUR_LATER)
    assert await sweep(database) == {"model": {"examined": 4, "documents": 1}}
    assert await jobs(database) == [("embed", "embed", "model", str(half.document_id), 3)]


async def test_what_was_written_a_moment_ago_or_waits_for_its_job_is_left_alone(
    database: Database, model: EmbeddingModel
) -> None:
    await set_the_clock(database, "2026-03-01 11:00+00")
    before = await lost(database, "before")
    await set_the_clock(database, NOON)
    waiting = await lost(database, "waiting")
    async with database.connection() as connection:
        job = NewJob("embed", {"document_id": str(waiting.document_id)}, queue="embed")
        job_id = await enqueue_async(connection, job)
    behind = await lost(database, "behind it")
    await set_the_clock(database, HOUR_LATER)
    await lost(database, "just written")
    await sweep(database)
    assert await swept(database) == [str(before.document_id)]
    await query(database, "DELETE FROM docyard.procrastinate_jobs WHERE id = %s", job_id)
    await sweep(database)
    assert set(await swept(database)) == {str(one.document_id) for one in (before, waiting, behind)}


@pytest.mark.parametrize("state", ["doing", "scheduled", "partition"])
async def test_a_job_counts_as_unfinished_however_it_waits(
    database: Database, model: EmbeddingModel, state: str
) -> None:
    document = await lost(database, "a")
    async with database.connection() as connection:
        job_id = await enqueue_async(
            connection,
            NewJob(
                "embed",
                {"document_id": str(document.document_id), "model": "model"},
                queue="embed",
                partition_key="p" if state == "partition" else None,
            ),
        )
    change = {
        "doing": "status = 'doing', worker_id = 1",
        "scheduled": "scheduled_at = '2026-04-01'",
        "partition": "attempts = 0",
    }[state]
    await query(database, f"UPDATE docyard.procrastinate_jobs SET {change} WHERE id = %s", job_id)
    await set_the_clock(database, HOUR_LATER)
    await sweep(database)
    assert await swept(database) == []
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'failed' WHERE id = %s", job_id)
    await sweep(database)
    assert len(await swept(database)) == 1


async def test_a_document_is_swept_once_a_day_and_not_while_the_last_sweeps_job_waits(
    database: Database, model: EmbeddingModel
) -> None:
    await lost(database, "a")
    await set_the_clock(database, HOUR_LATER)
    await sweep(database)
    [first] = await query(database, "SELECT id FROM docyard.procrastinate_jobs")
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'failed'")
    await set_the_clock(database, "2026-03-02 12:59+00")
    await sweep(database)
    assert len(await swept(database)) == 1
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'todo' WHERE id = %s", first["id"])
    await set_the_clock(database, NEXT_DAY)
    assert (await sweep(database))["model"]["documents"] == 0
    await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'failed'")
    await sweep(database)
    assert len(await swept(database)) == 2


async def test_other_models_are_swept_by_backfill_jobs_and_a_new_one_only_behind_its_migration(
    database: Database, model: EmbeddingModel
) -> None:
    old = await lost(database, "old")
    await embed(database, model, [old])
    models = ModelRepository(database)
    new = await models.register(an_identity("new", hash="cd" * 32))
    await query(database, "UPDATE docyard.embedding_models SET backfill_to = "
                "(SELECT max(id) FROM docyard.chunks) WHERE id = %s", new.id)  # fmt: skip
    late = await lost(database, "late")
    await embed(database, model, [late])
    await set_the_clock(database, HOUR_LATER)
    await sweep(database)
    assert await jobs(database) == [("backfill", "migrate", "new", str(late.document_id), 1)]
    await query(database, "UPDATE docyard.embedding_models SET state = 'ready' WHERE id = %s", new.id)
    await sweep(database)
    assert set(await swept(database)) == {str(old.document_id), str(late.document_id)}
    await query(database, "UPDATE docyard.embedding_models SET state = 'failed' WHERE id = %s", new.id)
    assert set(await sweep(database)) == {"model"}


async def test_the_ranges_that_a_migration_has_not_reached_are_left_to_it(
    database: Database, model: EmbeddingModel
) -> None:
    documents = [await lost(database, name) for name in "abcd"]
    ids = [row["id"] for row in await query(database, "SELECT id FROM docyard.chunks ORDER BY id")]
    async with database.connection() as connection:
        for first, last in ((ids[1], ids[1]), (ids[2], ids[2])):
            payload = {"model": "model", "first": first, "last": last}
            await enqueue_async(connection, NewJob("backfill", payload, queue="migrate"))
    await set_the_clock(database, HOUR_LATER)
    await sweep(database)
    assert set(await swept(database)) == {str(documents[0].document_id), str(documents[3].document_id)}


async def test_tombstones_and_refused_texts_are_never_swept(
    database: Database, model: EmbeddingModel
) -> None:
    gone = await lost(database, "gone")
    await DocumentRepository(database).remove(gone.document_id)
    refused = await lost(database, "refused")
    await fail(database, model, refused.document_id, "text_refused")
    for moment in (HOUR_LATER, NEXT_DAY, DAY_AFTER):
        await set_the_clock(database, moment)
        assert (await sweep(database))["model"]["documents"] == 0


async def test_what_failed_in_passing_is_tried_again_after_a_day_and_three_times_in_all(
    database: Database, model: EmbeddingModel
) -> None:
    document = await lost(database, "flaky")
    await fail(database, model, document.document_id, "not_finite")
    vectors = VectorRepository(database)
    counts = []
    for day in range(1, 7):
        await set_the_clock(database, f"2026-03-0{day} 1{day + 2}:00+00")
        counts.append((await sweep(database))["model"]["documents"])
        if await vectors.missing(model, [document.document_id]):
            await fail(database, model, document.document_id, "not_finite")
        await query(database, "UPDATE docyard.procrastinate_jobs SET status = 'failed'")
    assert counts == [0, 1, 1, 0, 0, 0]
    [failure] = await query(database, "SELECT attempts FROM docyard.embedding_failures")
    assert failure["attempts"] == 3
    [coverage] = await query(database, "SELECT failed, missing FROM docyard.embedding_coverage")
    assert coverage == {"failed": 1, "missing": 0}


async def test_a_run_is_bounded_and_the_next_one_goes_on_behind_it_round_and_round(
    database: Database, model: EmbeddingModel
) -> None:
    documents = [str((await lost(database, f"{number}")).document_id) for number in range(7)]
    await set_the_clock(database, HOUR_LATER)
    assert await sweep(database, pages=2, page_size=2) == {"model": {"examined": 4, "documents": 4}}
    assert set(await swept(database)) == set(documents[:4])
    assert await sweep(database, page_size=2, documents=2) == {"model": {"examined": 2, "documents": 2}}
    assert await sweep(database, page_size=2) == {"model": {"examined": 1, "documents": 1}}
    assert set(await swept(database)) == set(documents)
    assert await sweep(database) == {"model": {"examined": 7, "documents": 0}}, "from the beginning again"


def test_it_is_scheduled_once_an_hour_over_the_fleet() -> None:
    registry = Registry()
    Sweep(None).register(registry)  # type: ignore[arg-type]
    [schedule] = registry.schedules
    assert (schedule.name, schedule.kind, schedule.queue, schedule.unique_key) == (
        KIND,
        KIND,
        "maintain",
        KIND,
    )


async def test_a_worker_runs_it_as_a_job(database: Database, model: EmbeddingModel) -> None:
    document = await lost(database, "a")
    await set_the_clock(database, HOUR_LATER)
    registry = Registry()
    Sweep(database).register(registry)
    async with database.connection() as connection:
        job_id = await enqueue_async(connection, NewJob(KIND, queue="maintain"))
    await drain(database, registry)
    [found] = await query(
        database, "SELECT status::text, result FROM docyard.procrastinate_jobs WHERE id = %s", job_id
    )
    assert found == {"status": "succeeded", "result": {"model": {"examined": 1, "documents": 1}}}
    assert await swept(database) == [str(document.document_id)]
