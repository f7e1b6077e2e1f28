"""Texts that break the provider, in front of those that do not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually
from support.yards import asking, open_yard, rows, value

if TYPE_CHECKING:
    from pathlib import Path

    from support.embedding_server import EmbeddingServer


@pytest.mark.slow
async def test_texts_that_break_the_provider_do_not_keep_others_behind_them(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.break_marker = "poison"
    counts = embedding_server.counts
    for kind, count in (("poison", 5), ("good", 10)):
        (tmp_path / kind).mkdir()
        for number in range(count):
            (tmp_path / kind / f"{number}.txt").write_text(f"{kind} {number} is here")
    environment = asking(embedding_server, DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST="1")
    async with open_yard(url, environment) as yard, yard.worker() as worker:
        working = asyncio.create_task(worker.run())
        bad = await yard.ingest([tmp_path / "poison"])
        await eventually(lambda: counts.requests >= 4, seconds=60, what="the breaker to open")
        good = await yard.ingest([tmp_path / "good"])
        await good.done(timeout=60)
        assert await value(yard.database, "SELECT count(*) FROM docyard.embeddings") == 10
        # And then it is known who was at fault.
        await bad.done(timeout=60)
        failed = await rows(yard.database, "SELECT code FROM docyard.embedding_failures")
        assert failed == [("provider_unavailable",)] * 5
        assert await value(yard.database, "SELECT max(attempts) FROM docyard.jobs") == 1
        worker.stop()
        await working
