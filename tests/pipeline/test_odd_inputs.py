"""Names and contents that are unusual and legal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support.yards import asking, ingest, open_yard, rows, value

from docyard_schema import DocumentRepository, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from support.embedding_server import EmbeddingServer


async def test_odd_names_are_found_under_their_names(url: str, tmp_path: Path) -> None:
    names = ["grüße.txt", "文書.md", "emoji 🦫.txt", "with space & 100%.txt", "new\nline.txt", "#hash?.txt"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"Number {number} says marmot.")
    async with open_yard(url) as yard:
        summary = await ingest(yard, tmp_path)
        assert (summary.created, summary.failed) == (len(names), 0)
        found = {hit.source_uri for hit in await yard.search("marmot", limit=20)}
        assert found == {(tmp_path / name).as_uri() for name in names}
        assert (await ingest(yard, tmp_path)).unchanged == len(names)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names")
async def test_a_name_that_is_no_unicode_is_ingested(url: str, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("Coffee is served.")
    async with open_yard(url) as yard:
        assert (await ingest(yard, tmp_path)).created == 1
        [hit] = await yard.search("coffee")
        assert (hit.source_uri or "").endswith("/caf%E9.txt")


async def test_an_empty_file_is_a_document_without_chunks(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.md").write_text(" \n\n\t\n")
    async with open_yard(url, asking(embedding_server)) as yard:
        summary = await ingest(yard, tmp_path)
        assert (summary.created, summary.chunks, summary.jobs) == (2, 0, 2)
        document = await DocumentRepository(yard.database).find("default", (tmp_path / "empty.txt").as_uri())
        assert document is not None
        version = await DocumentRepository(yard.database).version(document.id)
        assert version is not None
        assert version.raw == ""
        assert (await ingest(yard, tmp_path)).unchanged == 2
        (tmp_path / "empty.txt").write_text("No longer.")
        assert (await ingest(yard, tmp_path)).updated == 1
        assert embedding_server.counts.texts == 1
        (tmp_path / "empty.txt").write_text("")
        assert (await ingest(yard, tmp_path)).updated == 1
        assert await value(yard.database, "SELECT count(*) FROM docyard.chunks") == 0
        assert await value(yard.database, "SELECT count(*) FROM docyard.embeddings") == 0


async def test_a_document_of_thousands_of_chunks(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    book = tmp_path / "book.md"
    lines = [f"## Section {number}\n\nThe number of this section is {number}.\n" for number in range(5000)]
    book.write_text("\n".join(lines))
    async with open_yard(url, asking(embedding_server, DOCYARD_CHUNK_SIZE="80")) as yard:
        summary = await ingest(yard, book)
        assert summary.chunks == summary.embedded >= 5000
        [(least, most, distinct)] = await rows(
            yard.database, "SELECT min(ordinal), max(ordinal), count(DISTINCT ordinal) FROM docyard.chunks"
        )
        assert (least, most, distinct) == (0, summary.chunks - 1, summary.chunks)
        lines.insert(2500, "## Added\n\nA marmot sits here.\n")
        book.write_text("\n".join(lines))
        embedding_server.reset()
        again = await ingest(yard, book)
        assert 0 < again.embedded < 5
        assert embedding_server.counts.texts == again.embedded
        [hit] = await yard.search("marmot", mode="text")
        assert "marmot" in hit.snippet


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Bären schlafen im Winter, und zwar sehr lange."),
        ("utf-16", "Bären schlafen im Winter, und zwar sehr lange."),
        ("cp1252", "Bären schlafen im Winter – „sehr lange“, heißt es überall, für Jäger wie für Förster."),
    ],
)
async def test_the_exact_bytes_can_be_had_back(url: str, tmp_path: Path, encoding: str, text: str) -> None:
    note = tmp_path / "note.txt"
    note.write_bytes(text.encode(encoding))
    async with open_yard(url) as yard:
        assert (await ingest(yard, note)).created == 1
        [hit] = await yard.search("Bären", mode="text")
        assert "Bären" in hit.snippet
        documents = DocumentRepository(yard.database)
        version, document = await documents.version(hit.document_id), await documents.get(hit.document_id)
        assert version is not None
        assert document is not None
        if version.raw is not None:
            stored_as = str(document.metadata.get("encoding", "utf-8"))
            assert version.raw.encode(stored_as) == note.read_bytes()
        else:
            assert b"\x00" in note.read_bytes()


async def test_nul_and_control_characters_do_not_stop_a_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"before\x00after \x1b[31mred marmot\x1b[0m \x07\n" * 20)
    async with open_yard(url) as yard:
        summary = await ingest(yard, tmp_path)
        assert summary.created + summary.failed == 1
        if summary.failed:
            assert summary.failures[0][2] == "unsupported_media"
        else:
            assert len(await yard.search("marmot", mode="text")) == 1


async def test_mistakes_of_the_caller_are_told(url: str, tmp_path: Path) -> None:
    async with open_yard(url) as yard:
        with pytest.raises(InvalidInput, match="path"):
            await yard.ingest([])
        with pytest.raises(InvalidInput, match="collection"):
            await yard.ingest([tmp_path], collection="")
        with pytest.raises(InvalidInput, match="mode"):
            await yard.search("x", mode="fuzzy")  # type: ignore[arg-type]
        assert await value(yard.database, "SELECT count(*) FROM docyard.batches") == 0


async def test_waiting_for_a_batch_that_nobody_works_on_ends_when_told(url: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("A note.")
    async with open_yard(url) as yard:
        seen: list[int] = []
        batch = await yard.ingest([tmp_path], on_found=seen.append)
        assert seen == [1]
        with pytest.raises(TimeoutError):
            await batch.done(timeout=0.2)
        await yard.work()
        states: list[str] = []
        progress = await batch.done(timeout=5, on_progress=lambda progress: states.append(progress.state))
        assert (progress.completed, states) == (2, ["finished"])
