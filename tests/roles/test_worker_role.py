"""A worker that may write rows and change no table does all that a worker does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from conftest import opened
from support.examples import an_identity, embed, store
from support.queueing import states
from support.working import AT_ONCE, drain, running
from support.yards import ingest, open_yard, value

from docyard_queue import Inspection, NewJob, Registry, batch_progress, create_batch, enqueue_many
from docyard_schema import DatabaseError, ModelIdentity, ModelRepository
from docyard_schema.embeddings import build_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_a_worker_claims_finishes_retries_and_enqueues(
    as_member: Callable[[str], str], granted: str
) -> None:
    registry, seen = Registry(), []

    @registry.handler("work", backoff=AT_ONCE)
    async def work(attempt: Any, payload: dict[str, Any]) -> None:
        seen.append(payload)
        if attempt.job.attempt == 1:
            raise ValueError("once more")
        async with attempt.commit() as connection:
            keyed = [
                NewJob("next", unique_key="n"),
                NewJob("next", unique_key="n", unique_scope="until_done"),
            ]
            await enqueue_many(connection, [NewJob("next"), *keyed])

    @registry.handler("next")
    def following(attempt: Any, payload: dict[str, Any]) -> int:
        return 1

    async with opened(as_member("worker")) as database:
        batch = await create_batch(database, "mine")
        await drain(database, registry)
        assert seen == [{"secret": 1}] * 2
        assert await states(database) == ["completed"] * 4
        assert (await batch_progress(database, batch)).total == 0


async def test_a_worker_beats_is_woken_and_takes_jobs_from_the_dead(
    as_member: Callable[[str], str], granted: str
) -> None:
    registry, done = Registry(), asyncio.Event()

    @registry.handler("work")
    async def work(attempt: Any, payload: dict[str, Any]) -> None:
        done.set()

    with psycopg.connect(granted) as owner:
        # Claimed by a worker that is gone.
        owner.execute(
            "UPDATE docyard.procrastinate_jobs SET status = 'doing', lease = 1, attempts = 1, "
            "started_at = now(), worker_id = 999"
        )
    async with opened(as_member("worker")) as database:
        async with running(database, registry, heartbeat_seconds=0.1):
            await asyncio.wait_for(done.wait(), 20)
            [worker] = await Inspection(database).workers()
            first = worker.heartbeat_at
            async with asyncio.timeout(20):
                while (await Inspection(database).workers())[0].heartbeat_at == first:
                    await asyncio.sleep(0.05)
        assert await Inspection(database).workers() == [], "it signed off"


async def test_a_worker_ingests_embeds_and_searches(
    as_member: Callable[[str], str], granted: str, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text("# Whales\n\nThe blue whale eats krill.\n")
    second.write_text("# Tides\n\nThe moon pulls the oceans.\n")
    with psycopg.connect(granted) as owner:
        owner.execute("DELETE FROM docyard.procrastinate_jobs")
    # A model's partition is a table, and the owner's to make.
    async with open_yard(granted) as yard:
        await ingest(yard, first)
    async with open_yard(as_member("worker")) as yard:
        summary = await ingest(yard, second)
        assert summary.failed == 0
        assert await value(yard.database, "SELECT sum(missing) FROM docyard.embedding_coverage") == 0
        assert [hit.title for hit in await yard.search("what pulls the oceans", limit=1)] == ["Tides"]


async def test_a_worker_changes_the_active_model_and_makes_or_drops_no_table(
    as_member: Callable[[str], str], granted: str
) -> None:
    async with opened(granted) as owned:
        document = await store(owned)
        old = await ModelRepository(owned).use(an_identity("old"))
        new = await ModelRepository(owned).register(an_identity("new", 5))
    async with opened(as_member("worker")) as database:
        models = ModelRepository(database)
        for model in (old, new):
            assert await embed(database, model, [document]) == 1
        assert [model.name for model in await models.kept()] == ["old", "new"]
        assert (await models.set_state("new", "ready")).state == "ready"
        assert (await models.activate("new")).state == "active"
        assert (await models.rollback()).name == "old"
        with pytest.raises(DatabaseError, match="may not drop the table") as refused:
            await models.drop("new")
        assert "docyard models drop new" in refused.value.hint
        with pytest.raises(DatabaseError, match="may not build the index") as refused:
            await build_index(database, old)
        assert "docyard worker --queue maintain" in refused.value.hint
        assert [model.state for model in await models.list()] == ["active", "retired"]


async def test_a_worker_that_meets_a_new_model_is_told_who_makes_its_table(
    as_member: Callable[[str], str],
) -> None:
    identity = ModelIdentity(name="m", provider="fake", dimension=8, hash="0" * 64)
    async with opened(as_member("worker")) as database:
        with pytest.raises(DatabaseError, match="may not make the table") as refused:
            await ModelRepository(database).register(identity)
    assert "docyard ingest FILE --work" in refused.value.hint
