"""What a search by meaning has found once it finds ever after, while documents come and models change."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from support.working import running
from support.yards import open_yard, value

from docyard_queue import NewJob, enqueue_async
from docyard_schema import ModelRepository, VerificationError

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_was_found_stays_found_while_documents_come_and_models_change(
    url: str, tmp_path: Path
) -> None:
    def write(number: int) -> Path:
        path = tmp_path / f"{number:04}.md"
        path.write_text(f"# Note {number}\n\nMarmot {number} whistles.\n\n## More\n\nEagle {number}.")
        return path

    async with open_yard(url) as yard:
        await yard.ingest([write(number) for number in range(20)])
        await yard.work()
        models = ModelRepository(yard.database)
        identity, settings = await yard.pipeline.providers.asked(model="wordllama-64")
        done = asyncio.Event()
        coming = 20
        changes = searches = 0

        async def ingest() -> None:
            nonlocal coming
            while not done.is_set():
                await yard.ingest([write(coming)])
                coming += 1
                await asyncio.sleep(0.02)

        async def search() -> None:
            nonlocal searches
            found: set[str] = set()
            while not done.is_set():
                now = {hit.source_uri for hit in await yard.search("marmot", mode="vector", limit=1000)}
                assert found <= now, f"{len(found - now)} of {len(found)} are no longer found"
                found, searches = now, searches + 1

        async with running(yard.database, yard.registry, poll_seconds=0.05):
            others = [asyncio.create_task(task()) for task in (ingest, search, search)]
            try:
                new = await models.register(identity, settings=settings)
                async with yard.database.transaction() as connection:
                    payload = {"model": new.name, "first": 1, "last": new.backfill_to}
                    await enqueue_async(connection, NewJob("backfill", payload, queue="migrate"))
                async with asyncio.timeout(60):
                    while changes < 6:
                        with suppress(VerificationError):
                            if changes == 0:
                                await models.activate(new.name)
                            else:
                                await models.rollback()
                            changes += 1
                        assert [task for task in others if task.done()] == []
                        await asyncio.sleep(0.1)
            finally:
                done.set()
                ends = await asyncio.gather(*others, return_exceptions=True)
        assert ends == [None, None, None]
        await yard.work()
        assert await value(yard.database, "SELECT sum(missing) FROM docyard.embedding_coverage") == 0
        assert len(await yard.search("marmot", mode="vector", limit=1000)) == coming
    assert searches > changes
