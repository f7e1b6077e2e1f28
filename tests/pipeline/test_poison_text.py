"""One text that the provider refuses: it alone has no vector, and finding it costs few requests."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest
from support.coverage import without_vectors
from support.yards import asking, ingest, open_yard, rows, value

if TYPE_CHECKING:
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

WORDS = "The input was refused by the content policy."
_FAILURES = """
SELECT failure.code, failure.message, chunk.text FROM docyard.embedding_failures AS failure
JOIN docyard.chunks AS chunk ON chunk.id = failure.chunk_id
"""


def _write(folder: Path, documents: int, chunks: int, poisoned: dict[int, int]) -> None:
    """Documents of short paragraphs, a chunk each with DOCYARD_CHUNK_SIZE=80; those named have the marker."""
    folder.mkdir()
    for number in range(documents):
        lines = [
            f"{'poison' if poisoned.get(number) == line else 'Line'} {line} of document {number} is about "
            f"{number * chunks + line}, alone."
            for line in range(chunks)
        ]
        (folder / f"{number:03}.txt").write_text("\n\n".join(f"{line:60}" for line in lines))


def settings(server: EmbeddingServer, **more: str) -> dict[str, str]:
    return asking(server, DOCYARD_CHUNK_SIZE="80", **more)


@pytest.mark.slow
async def test_one_poisonous_text_among_5000_costs_no_other_its_vector(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.refuse_marker = "poison"
    _write(tmp_path / "texts", 50, 100, {23: 42})
    async with open_yard(url, settings(embedding_server)) as yard:
        summary = await ingest(yard, tmp_path / "texts")
        assert (summary.chunks, summary.embedded, summary.failed) == (5_000, 4_999, 0)
        assert await value(yard.database, "SELECT count(*) FROM docyard.embeddings") == 4_999
        [(code, message, text)] = await rows(yard.database, _FAILURES)
        assert code == "text_refused"
        assert WORDS in message
        assert "poison" in text
        counts = embedding_server.counts
        least = counts.minimum(2_048, 300_000)
        extra = counts.requests - least
        assert extra <= 2 * math.log2(2_048), f"{counts.requests} requests, where {least} would do"
        assert counts.embedded_again == {}
        assert max(await _attempts(yard)) == 1
        coverage = await rows(
            yard.database,
            "SELECT sum(chunks), sum(embedded), sum(missing), sum(failed) FROM docyard.embedding_coverage",
        )
        assert coverage == [(5_000, 4_999, 0, 1)]

        embedding_server.reset()
        await ingest(yard, tmp_path / "texts")
        assert embedding_server.counts.requests == 0, "nothing is asked twice that was refused once"


async def test_several_poisonous_texts_are_each_found(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    embedding_server.refuse_marker = "poison"
    embedding_server.max_texts = 64
    _write(tmp_path / "texts", 20, 16, {2: 3, 3: 0, 11: 15})
    environment = settings(embedding_server, DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST="64")
    async with open_yard(url, environment) as yard:
        summary = await ingest(yard, tmp_path / "texts")
        assert (summary.chunks, summary.embedded) == (320, 317)
        assert len(await rows(yard.database, _FAILURES)) == 3
        assert await without_vectors(yard.database) == 3
        least = embedding_server.counts.minimum(64, 300_000)
        assert embedding_server.counts.requests - least <= 3 * 2 * math.log2(64) + 2
        assert embedding_server.counts.embedded_again == {}


async def test_a_poisonous_document_opens_no_breaker_for_the_others(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    """Every one of its texts is refused, and those of the others get their vectors at once."""
    embedding_server.refuse_marker = "poison"
    _write(tmp_path / "texts", 8, 10, {})
    (tmp_path / "texts" / "bad.txt").write_text(
        "\n\n".join(f"{f'poison number {number} in a row of many':60}" for number in range(24))
    )
    async with open_yard(url, settings(embedding_server)) as yard:
        summary = await ingest(yard, tmp_path / "texts")
        assert (summary.chunks, summary.embedded, summary.failed) == (104, 80, 0)
        assert len(await rows(yard.database, _FAILURES)) == 24
        assert max(await _attempts(yard)) == 1
        paused = await value(yard.database, "SELECT count(*) FROM docyard.queue_stats WHERE paused")
        assert paused == 0


@pytest.mark.slow
async def test_a_text_that_breaks_the_provider_opens_no_breaker_and_is_found_too(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    """A 500 for whatever it travels with, each time; nothing says that it is the text's fault."""
    embedding_server.break_marker = "poison"
    embedding_server.max_texts = 64
    _write(tmp_path / "texts", 20, 16, {7: 7})
    environment = settings(embedding_server, DOCYARD_EMBEDDING_MAX_TEXTS_PER_REQUEST="64")
    async with open_yard(url, environment) as yard:
        began = time.monotonic()
        summary = await ingest(yard, tmp_path / "texts")
        seconds = time.monotonic() - began
        assert (summary.chunks, summary.embedded, summary.failed) == (320, 319, 0)
        [(_, message, text)] = await rows(yard.database, _FAILURES)
        assert "500" in message
        assert "poison" in text
        assert embedding_server.counts.embedded_again == {}
        assert max(await _attempts(yard)) == 1
        assert seconds < 60, f"{seconds:.0f} s: everybody waited for it"


async def _attempts(yard: object) -> list[int]:
    return [attempts for (attempts,) in await rows(yard.database, "SELECT attempts FROM docyard.jobs")]  # type: ignore[attr-defined]
