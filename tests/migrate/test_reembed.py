"""What a reembed does, step by step, through the façade."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.embedding_answers import failing, unauthorized
from support.eventually import eventually
from support.reembed_process import NEW, NEW_DIMENSION, NEW_NAME, OLD, OLD_DIMENSION, OLD_NAME
from support.working import running
from support.yards import ingest, jobs, open_yard, rows, value

from docyard_queue import cancel_batch, pause_batch, resume_batch
from docyard_schema import ConfigError, Conflict, DatabaseError, InvalidInput, ModelMismatch, ModelRepository
from docyard_workers.embed.errors import EmbeddingError, ModelNotFound, ProviderRefused
from docyard_workers.migrate import planning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

    from docyard import Docyard
    from docyard.reembedding import Reembedding

QUESTION = "how does a worker claim jobs"
_CHUNKS = "SELECT count(*) FROM docyard.chunks"
_VECTORS = (
    "SELECT count(*) FROM docyard.embeddings AS vector JOIN docyard.embedding_models AS model "
    "ON model.id = vector.model_id WHERE model.name = %s"
)


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNKS_PER_RANGE", 10)


@pytest.fixture
async def yard(url: str, environment: dict[str, str], small_corpus: Path) -> AsyncIterator[Docyard]:
    """A docyard whose documents have vectors of the old model."""
    async with open_yard(url, environment) as opened:
        await ingest(opened, small_corpus)
        yield opened


async def to_new(yard: Docyard, **options: Any) -> Reembedding:
    return await yard.reembed(NEW, **({"dimension": NEW_DIMENSION} | options))


async def states(yard: Docyard) -> dict[str, str]:
    return dict(await rows(yard.database, "SELECT name, state FROM docyard.embedding_models"))


async def test_the_new_model_takes_over_when_all_is_there_and_verified(
    yard: Docyard, models: EmbeddingServer
) -> None:
    before = await yard.search(QUESTION, mode="vector")
    models.reset()
    begun = await to_new(yard)
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    assert (await yard.search(QUESTION, mode="vector")).hits == before.hits
    await yard.work()
    end = await begun.standing()
    assert end is not None
    assert end.phase == "done", end
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}
    chunks = await value(yard.database, _CHUNKS)
    assert await value(yard.database, _VECTORS, NEW_NAME) == chunks
    assert end.result is not None
    assert end.result["status"] == "activated"
    assert (end.result["chunks"], end.result["embedded"], end.result["failed"]) == (chunks, chunks, 0)
    assert end.result["recall"] == 1.0
    assert 0 < end.result["overlap"] < 1
    assert end.result["compared_with"] == OLD_NAME
    after = await yard.search(QUESTION, mode="vector")
    assert after.degraded is None
    assert after.hits != before.hits
    sent = [text for text, times in models.counts.embedded.items() if times > 1 and text != QUESTION]
    assert sent == [], "no text travels twice"
    await ModelRepository(yard.database).rollback()
    assert (await yard.search(QUESTION, mode="vector")).hits == before.hits


async def test_without_activation_it_ends_ready_and_a_second_call_activates(yard: Docyard) -> None:
    begun = await to_new(yard, activate=False)
    await yard.work()
    assert (await begun.standing()).result["status"] == "ready"  # type: ignore[union-attr, index]
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "ready"}
    again = await yard.reembed(NEW_NAME)
    assert not again.joined
    await yard.work()
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


async def test_what_is_under_way_is_joined(yard: Docyard) -> None:
    first = await to_new(yard)
    enqueued = len(await jobs(yard))
    second = await to_new(yard)
    assert second.joined
    assert second.batch_id == first.batch_id
    assert len(await jobs(yard)) == enqueued


async def test_of_two_that_begin_at_once_one_joins_the_other(yard: Docyard) -> None:
    both = await asyncio.gather(to_new(yard), to_new(yard), to_new(yard))
    assert len({begun.batch_id for begun in both}) == 1
    assert sorted(begun.joined for begun in both) == [False, True, True]
    reembeds = "SELECT count(*) FROM docyard.batches WHERE callback ->> 'kind' = 'reembed'"
    assert await value(yard.database, reembeds) == 1


async def test_the_active_model_is_left_as_it_is(yard: Docyard) -> None:
    begun = await yard.reembed(OLD, dimension=OLD_DIMENSION)
    assert begun.batch_id is None
    assert await begun.done() is None
    assert (await yard.reembed(OLD_NAME)).batch_id is None
    assert await jobs(yard, kind="backfill") == []


async def test_a_second_change_has_to_wait_for_the_first(yard: Docyard) -> None:
    first = await to_new(yard)
    with pytest.raises(Conflict, match=f"A reembed to {NEW_NAME} is under way"):
        await yard.reembed("wordllama-64")
    assert first.batch_id is not None
    await cancel_batch(yard.database, first.batch_id)
    await yard.work()
    assert (await first.standing()).phase == "cancelled"  # type: ignore[union-attr]
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    await yard.reembed("wordllama-64")
    await yard.work()
    assert (await states(yard))["wordllama-64"] == "active"


async def test_what_cannot_be_had_is_refused_before_anything_is_enqueued(
    yard: Docyard, models: EmbeddingServer
) -> None:
    with pytest.raises(ModelNotFound):
        await yard.reembed("no-such-model")
    models.script(unauthorized())
    with pytest.raises(ProviderRefused):
        await to_new(yard)
    models.script(failing(500))
    with pytest.raises(EmbeddingError):
        await to_new(yard)
    with pytest.raises(ConfigError, match="openai or wordllama"):
        await yard.reembed(NEW, provider="nobody")
    with pytest.raises(InvalidInput, match="A strategy is"):
        await to_new(yard, strategy="sideways")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="cannot be empty"):
        await yard.reembed(" ")
    assert await states(yard) == {OLD_NAME: "active"}
    assert await jobs(yard, queue="migrate") == []


async def test_another_model_of_the_same_name_is_refused(yard: Docyard) -> None:
    await to_new(yard)
    await rows(
        yard.database,
        "UPDATE docyard.embedding_models SET hash = repeat('0', 64) WHERE name = %s RETURNING 1",
        NEW_NAME,
    )
    with pytest.raises(ModelMismatch, match=f"The model name '{NEW_NAME}' is taken"):
        await to_new(yard)


async def test_documents_that_come_meanwhile_are_embedded_by_both_and_waited_for(
    yard: Docyard, tmp_path: Path
) -> None:
    begun = await to_new(yard)
    late = tmp_path / "late.md"
    late.write_text("# Marmots\n\nMarmots whistle when an eagle comes.\n")
    await ingest(yard, late)
    assert (await begun.standing()).phase == "done"  # type: ignore[union-attr]
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}
    chunks = await value(yard.database, _CHUNKS)
    for name in (OLD_NAME, NEW_NAME):
        assert await value(yard.database, _VECTORS, name) == chunks
    [hit, *_] = await yard.search("Marmots whistle when an eagle comes", mode="vector")
    assert hit.title == "Marmots"


async def test_what_nobody_brings_is_planned_once_more(yard: Docyard) -> None:
    begun = await to_new(yard)
    # A range is lost: pruned, or cancelled by somebody.
    await rows(
        yard.database,
        "UPDATE docyard.procrastinate_jobs SET status = 'cancelled' WHERE id = "
        "(SELECT min(id) FROM docyard.procrastinate_jobs WHERE batch_id = %s) RETURNING 1",
        begun.batch_id,
    )
    await yard.work()
    assert (await begun.standing()).phase == "done"  # type: ignore[union-attr]
    assert await value(yard.database, _VECTORS, NEW_NAME) == await value(yard.database, _CHUNKS)


async def test_a_range_that_is_given_up_ends_it_with_the_reason_and_the_same_call_goes_on(
    yard: Docyard, models: EmbeddingServer
) -> None:
    begun = await to_new(yard)
    await rows(
        yard.database,
        "UPDATE docyard.procrastinate_jobs SET status = 'failed', error_code = 'provider_unavailable', "
        "error_message = 'The provider was away.', finished_at = now() WHERE id = "
        "(SELECT min(id) FROM docyard.procrastinate_jobs WHERE batch_id = %s) RETURNING 1",
        begun.batch_id,
    )
    await yard.work()
    end = await begun.standing()
    assert end is not None
    assert end.has_failed
    assert end.error_message is not None
    assert "10 of " in end.error_message
    assert "The provider was away." in end.error_message
    assert f"docyard migrate reembed --model {NEW_NAME}" in end.error_message
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    made = await value(yard.database, _VECTORS, NEW_NAME)
    models.reset()
    again = await yard.reembed(NEW_NAME)
    assert not again.joined
    await yard.work()
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}
    assert models.counts.texts <= await value(yard.database, _CHUNKS) - made + 1, "and one probe"


async def test_a_person_who_comes_back_in_time_has_what_was_given_up_tried_again(yard: Docyard) -> None:
    begun = await to_new(yard)
    await rows(
        yard.database,
        "UPDATE docyard.procrastinate_jobs SET status = 'failed', finished_at = now() WHERE id = "
        "(SELECT min(id) FROM docyard.procrastinate_jobs WHERE batch_id = %s) RETURNING 1",
        begun.batch_id,
    )
    again = await to_new(yard)
    assert again.joined
    await again.hurry()
    await yard.work()
    assert (await again.standing()).phase == "done"  # type: ignore[union-attr]
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


async def test_an_index_that_finds_too_little_is_not_taken(
    yard: Docyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docyard_workers.migrate import verification

    real = verification.sample_quality

    async def half(*arguments: Any, **options: Any) -> Any:
        return replace(await real(*arguments, **options), recall=0.5)

    monkeypatch.setattr(verification, "sample_quality", half)
    begun = await to_new(yard)
    await yard.work()
    end = await begun.standing()
    assert end is not None
    assert end.has_failed
    assert "finds 50% of the exact 10 nearest" in (end.error_message or "")
    assert f"docyard models activate {NEW_NAME}" in (end.error_message or "")
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "building"}
    await ModelRepository(yard.database).activate(NEW_NAME)
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


async def test_texts_that_the_model_refuses_are_named_and_hold_up_nothing(
    yard: Docyard, models: EmbeddingServer, tmp_path: Path
) -> None:
    secret = tmp_path / "refused.md"
    secret.write_text("# Refused\n\nThis is UNSPEAKABLE indeed.\n")
    await ingest(yard, secret)
    models.refuse_marker = "UNSPEAKABLE"
    begun = await to_new(yard)
    await yard.work()
    end = await begun.standing()
    assert end is not None
    assert end.phase == "done", end
    assert end.result is not None
    assert end.result["failed"] == 1
    [[_, source, code, _]] = end.result["exceptions"]
    assert source.endswith("refused.md")
    assert code


async def test_a_pause_keeps_ranges_from_being_begun(yard: Docyard) -> None:
    begun = await to_new(yard)
    assert begun.batch_id is not None
    await pause_batch(yard.database, begun.batch_id)
    assert (await to_new(yard)).paused
    assert (await begun.standing()).phase == "paused"  # type: ignore[union-attr]
    async with running(yard.database, yard.registry, poll_seconds=0.1):
        await value(yard.database, "SELECT pg_sleep(0.5)::text")
        assert await value(yard.database, _VECTORS, NEW_NAME) == 0
        await resume_batch(yard.database, begun.batch_id)
        await begun.done(timeout=30)
    assert await states(yard) == {OLD_NAME: "retired", NEW_NAME: "active"}


async def test_a_job_that_runs_again_after_a_rollback_does_not_undo_it(yard: Docyard) -> None:
    begun = await to_new(yard)
    await yard.work()
    await ModelRepository(yard.database).rollback()
    # As it would be if a crash had come between the cut-over and the job's completion.
    assert (
        await value(
            yard.database,
            "SELECT job.status::text FROM docyard.batches AS batch JOIN docyard.procrastinate_jobs AS job "
            "ON job.id = batch.callback_job_id WHERE batch.id = %s",
            begun.batch_id,
        )
        == "succeeded"
    )
    assert await states(yard) == {OLD_NAME: "active", NEW_NAME: "retired"}


async def test_an_empty_database_is_moved_too(url: str, environment: dict[str, str]) -> None:
    async with open_yard(url, environment) as yard:
        begun = await to_new(yard)
        await yard.work()
        end = await begun.standing()
        assert end is not None
        assert end.phase == "done", end
        assert await states(yard) == {NEW_NAME: "active"}


async def test_in_place_the_new_model_is_filled_while_searches_say_what_they_lack(
    yard: Docyard, models: EmbeddingServer
) -> None:
    begun = await to_new(yard, strategy="in-place")
    assert await states(yard) == {NEW_NAME: "active"}
    assert await value(yard.database, _VECTORS, OLD_NAME) == 0
    found = await yard.search(QUESTION)
    assert found.hits
    assert found.degraded is not None
    assert "still being made" in found.degraded
    # Started again it goes on, however it is asked for.
    assert (await to_new(yard)).joined
    await yard.work()
    assert (await begun.standing()).phase == "done"  # type: ignore[union-attr]
    assert await value(yard.database, _VECTORS, NEW_NAME) == await value(yard.database, _CHUNKS)
    assert (await yard.search(QUESTION)).degraded is None
    assert (await to_new(yard, strategy="in-place")).batch_id is None


async def test_who_still_asks_for_the_old_model_gets_the_one_that_took_its_place(
    yard: Docyard, tmp_path: Path
) -> None:
    await to_new(yard)
    await yard.work()
    await ModelRepository(yard.database).drop(OLD_NAME)
    late = tmp_path / "late.md"
    late.write_text("# Marmots\n\nMarmots whistle when an eagle comes.\n")
    # The settings of this process are as they were.
    assert (await ingest(yard, late)).failed == 0
    assert await value(yard.database, _VECTORS, NEW_NAME) == await value(yard.database, _CHUNKS)
    assert (await yard.search(QUESTION)).degraded is None
    await yard.reembed("wordllama-64")
    await yard.work()
    await ModelRepository(yard.database).drop(NEW_NAME)
    late.write_text("# Marmots\n\nMarmots sleep for half a year.\n")
    assert (await ingest(yard, late)).failed == 0
    assert await states(yard) == {"wordllama-64": "active"}


async def test_in_place_after_a_crash_between_switch_and_plan_goes_on(
    yard: Docyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docyard_workers.migrate import beginning

    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(beginning, "begin", crash)
        with pytest.raises(RuntimeError, match="killed here"):
            await to_new(yard, strategy="in-place")
    assert await states(yard) == {NEW_NAME: "active"}
    again = await to_new(yard, strategy="in-place")
    assert again.batch_id is not None
    await yard.work()
    assert (await yard.search(QUESTION)).degraded is None
    with pytest.raises(InvalidInput, match="cannot be left inactive"):
        await yard.reembed(OLD, strategy="in-place", activate=False)


async def test_what_it_would_take_is_said_without_asking_anybody(
    yard: Docyard, models: EmbeddingServer
) -> None:
    models.reset()
    found = await yard.estimate_reembed(NEW, dimension=NEW_DIMENSION)
    chunks = await value(yard.database, _CHUNKS)
    assert (found.model, found.provider, found.dimension) == (NEW_NAME, "openai", NEW_DIMENSION)
    assert (found.chunks, found.registered) == (chunks, False)
    assert found.requests == -(-found.texts // 20)
    assert 0 < found.texts <= chunks
    assert found.tokens > found.texts
    assert found.price is not None
    assert float(found.price) == pytest.approx(found.tokens * 0.13 / 1e6)
    assert found.seconds > 0
    assert "per request" in found.assumed
    unknown = await yard.estimate_reembed("somebodys-own-model")
    assert (unknown.dimension, unknown.price, unknown.bytes) == (None, None, None)
    local = await yard.estimate_reembed("wordllama-128")
    assert (local.provider, local.dimension, local.price) == ("wordllama", 128, 0)
    assert models.counts.requests == 0
    assert await states(yard) == {OLD_NAME: "active"}
    # Of one that is under way it says what is left.
    await to_new(yard)
    await yard.work()
    done = await yard.estimate_reembed(NEW_NAME)
    assert (done.chunks, done.texts, done.requests, done.registered) == (0, 0, 0, True)


async def test_an_index_that_this_user_may_not_build_is_left_to_another_worker(
    yard: Docyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docyard_workers.migrate import reembed

    async def may_not(*_: object, **__: object) -> None:
        raise DatabaseError("This user may not build the index.") from psycopg.errors.InsufficientPrivilege()

    begun = await to_new(yard)
    with monkeypatch.context() as patched:
        patched.setattr(reembed, "ROWS_WORTH_AN_INDEX", 1)
        patched.setattr(reembed, "build_index", may_not)

        async def left() -> bool:
            now = await begun.standing()
            return now is not None and now.phase == "waiting" and now.last_status == "todo"

        async with running(yard.database, yard.registry, poll_seconds=0.1):
            await eventually(left, seconds=30)
    monkeypatch.setattr(reembed, "ROWS_WORTH_AN_INDEX", 1)
    await begun.hurry()
    await yard.work()
    assert (await begun.standing()).phase == "done"  # type: ignore[union-attr]


async def test_progress_is_counted_in_chunks(yard: Docyard) -> None:
    begun = await to_new(yard)
    start = await begun.standing()
    assert start is not None
    assert (start.chunks, start.done, start.phase) == (await value(yard.database, _CHUNKS), 0, "filling")
    seen: list[str] = []
    async with running(yard.database, yard.registry, poll_seconds=0.1):
        end = await begun.done(timeout=30, on_progress=lambda now: seen.append(now.phase))
    assert end is not None
    assert end.done == end.chunks == start.chunks
    assert seen[-1] == "done"
