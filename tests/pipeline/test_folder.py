"""A folder of real files becomes searchable documents, and costs nothing when nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.yards import asking, ingest, jobs, open_yard, rows, value

from docyard_schema import DocumentRepository
from docyard_schema.documents.chunk_identity import embedding_input

if TYPE_CHECKING:
    from support.embedding_server import EmbeddingServer

    from docyard import Docyard

_NOTE = """# Beekeeping

## Hives

{hives}

## Honey

{honey}

## Wax

{wax}
"""
_HIVES = "A hive stands dry, off the ground, and faces the morning sun. " * 18
_HONEY = "Honey is taken in July, when two thirds of the combs are capped. " * 18
_WAX = "Old combs are melted down; the wax is strained through a cloth. " * 18


async def _versions(yard: Docyard) -> int:
    return await value(yard.database, "SELECT count(*) FROM docyard.document_versions")


async def test_a_folder_of_real_texts_is_found_by_words_by_meaning_and_by_both(
    url: str, folder: Path
) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    async with open_yard(url) as yard:
        batch = await yard.ingest([folder], collection="packages")
        assert (batch.files, batch.refused) == (len(files), ())
        await yard.work()
        summary = await batch.summary()
        assert (summary.created, summary.failed) == (len(files), 0)
        assert summary.embedded + summary.reused == summary.chunks > len(files)
        progress = await batch.progress()
        assert progress.state == "finished"
        assert progress.total == progress.completed >= len(files)
        for mode in ("hybrid", "text", "vector"):
            result = await yard.search("PostgreSQL database adapter for Python", mode=mode, limit=5)
            assert result.degraded is None
            packages = {Path(hit.source_uri or "").parent.name for hit in result}
            assert any(package.startswith(("psycopg", "pgvector")) for package in packages), mode
        [missing] = await rows(
            yard.database, "SELECT sum(missing), sum(failed) FROM docyard.embedding_coverage"
        )
        assert missing == (0, 0)


async def test_the_same_folder_again_makes_no_version_no_embed_job_and_no_request(
    url: str, folder: Path, embedding_server: EmbeddingServer
) -> None:
    async with open_yard(url, asking(embedding_server)) as yard:
        first = await ingest(yard, folder)
        assert embedding_server.counts.requests > 0
        versions = await _versions(yard)
        assert versions == first.created
        embedding_server.reset()
        second = await ingest(yard, folder)
        assert (second.unchanged, second.created, second.updated) == (first.created, 0, 0)
        assert second.jobs == first.created, "an unchanged file has no job but its own"
        assert await _versions(yard) == versions
        assert embedding_server.counts.requests == 0


async def test_a_changed_file_makes_one_version_and_only_its_changed_chunks_are_sent(
    url: str, small_folder: Path, embedding_server: EmbeddingServer
) -> None:
    note = small_folder / "note.md"
    note.write_text(_NOTE.format(hives=_HIVES, honey=_HONEY, wax=_WAX))
    async with open_yard(url, asking(embedding_server)) as yard:
        await ingest(yard, small_folder)
        versions = await _versions(yard)
        document = await DocumentRepository(yard.database).find("default", note.as_uri())
        assert document is not None
        before = {chunk.id: chunk for chunk in await DocumentRepository(yard.database).chunks(document.id)}
        embedding_server.reset()
        changed = _HONEY.replace("July", "August")
        note.write_text(_NOTE.format(hives=_HIVES, honey=changed, wax=_WAX))
        summary = await ingest(yard, small_folder)
        assert (summary.updated, summary.created) == (1, 0)
        assert await _versions(yard) == versions + 1
        after = await DocumentRepository(yard.database).chunks(document.id)
        added = [chunk for chunk in after if chunk.id not in before]
        assert 0 < len(added) < len(after)
        assert all("August" in chunk.text for chunk in added)
        sent = embedding_server.counts.sent
        assert set(sent.values()) == {1}
        assert set(sent) == {embedding_input(chunk.heading_path, chunk.text) for chunk in added}
        found = await yard.search("taken in August", mode="text")
        assert found[0].source_uri == note.as_uri()
        assert "July" not in " ".join(hit.snippet for hit in await yard.search("honey taken", mode="text"))


async def test_the_same_text_in_two_files_is_sent_once(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    (tmp_path / "a.txt").write_text("The very same words stand in both files.")
    (tmp_path / "b.txt").write_text("The very same words stand in both files.")
    async with open_yard(url, asking(embedding_server)) as yard:
        first = await ingest(yard, tmp_path / "a.txt")
        second = await ingest(yard, tmp_path / "b.txt")
        assert (first.embedded, second.embedded, second.reused) == (1, 0, 1)
        assert embedding_server.counts.requests == 1
        assert len(await yard.search("very same words", mode="vector")) == 2


async def test_equal_passages_of_one_file_travel_once(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    line = "All work and no play makes Jack a dull boy. " * 20
    (tmp_path / "a.md").write_text("\n\n".join([line] * 6))
    async with open_yard(url, asking(embedding_server) | {"DOCYARD_CHUNK_SIZE": "900"}) as yard:
        summary = await ingest(yard, tmp_path)
        assert summary.chunks == summary.embedded + summary.reused
        assert summary.embedded == embedding_server.counts.texts == 1


async def test_another_title_makes_the_same_passages_found_under_it(
    url: str, tmp_path: Path, embedding_server: EmbeddingServer
) -> None:
    page = tmp_path / "page.html"
    text = "<html><head><title>{}</title></head><body><p>It is taken twice a day.</p></body></html>"
    page.write_text(text.format("Aspirin"))
    async with open_yard(url, asking(embedding_server)) as yard:
        await ingest(yard, page)
        embedding_server.reset()
        page.write_text(text.format("Ibuprofen"))
        summary = await ingest(yard, page)
        assert summary.updated == 1
        assert embedding_server.counts.requests == 0, "no passage changed"
        [hit] = await yard.search("ibuprofen", mode="text")
        assert hit.title == "Ibuprofen"
        assert not await yard.search("aspirin", mode="text")


async def test_a_removed_document_is_not_found_and_comes_back_with_its_file(url: str, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Marmots whistle when an eagle comes.")
    async with open_yard(url) as yard:
        await ingest(yard, note)
        [hit] = await yard.search("marmots")
        documents = DocumentRepository(yard.database)
        await documents.remove(hit.document_id)
        assert not await yard.search("marmots")
        await ingest(yard, note)
        assert [found.document_id for found in await yard.search("marmots")] == [hit.document_id]
        assert len(await documents.versions(hit.document_id)) == 1
    async with open_yard(url) as yard:
        note.unlink()
        batch = await yard.ingest([tmp_path])
        assert batch.files == 0
        assert (await batch.progress()).state == "finished"


async def test_collections_are_apart(url: str, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Marmots whistle when an eagle comes.")
    async with open_yard(url) as yard:
        for collection in ("alps", "andes"):
            assert (await ingest(yard, note, collection=collection)).created == 1
        assert len(await yard.search("marmots")) == 2
        [hit] = await yard.search("marmots", collection="andes")
        assert hit.collection == "andes"
        assert not await yard.search("marmots", collection="none")
        assert not await yard.search("marmots", kind="message")


async def test_tags_and_metadata_are_stored_and_kept_until_others_are_given(url: str, tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("---\nauthor: Ada\n---\n# Engines\n\nThey weave algebraic patterns.\n")
    async with open_yard(url) as yard:
        documents = DocumentRepository(yard.database)

        async def stored() -> tuple[list[str], dict[str, object]]:
            document = await documents.find("default", note.as_uri())
            assert document is not None
            return document.tags, document.metadata

        await ingest(yard, note, tags=["engines", "old"], metadata={"team": "blue"})
        tags, metadata = await stored()
        assert tags == ["engines", "old"]
        assert (metadata["team"], metadata["author"]) == ("blue", "Ada")
        assert metadata["size"] == note.stat().st_size
        assert (await ingest(yard, note)).unchanged == 1
        assert (await stored())[0] == ["engines", "old"]
        # The same bytes with other tags: the document has them, and no version is made.
        assert (await ingest(yard, note, tags=["new"])).unchanged == 0
        assert (await stored())[0] == ["new"]
        assert await _versions(yard) == 1
        note.write_text(note.read_text() + "\nAs the loom weaves flowers.\n")
        assert (await ingest(yard, note)).updated == 1
        assert (await stored())[0] == ["new"], "an ingest that names no tags takes none away"


async def test_priority_comes_first_and_goes_on_to_the_embed_job(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Slow.")
    (tmp_path / "b.txt").write_text("Urgent.")
    async with open_yard(url) as yard:
        await yard.ingest([tmp_path / "a.txt"])
        await yard.ingest([tmp_path / "b.txt"], priority=9)
        await yard.work(concurrency=1)
        done = sorted(await jobs(yard), key=lambda job: (job.finished_at, job.id))
        for kind in ("ingest", "embed"):
            assert [job.priority for job in done if job.kind == kind] == [9, 0]


@pytest.mark.parametrize("mode", ["hybrid", "text", "vector"])
async def test_an_empty_question_finds_nothing_and_asks_nobody(
    url: str, embedding_server: EmbeddingServer, mode: str
) -> None:
    async with open_yard(url, asking(embedding_server)) as yard:
        for query in ("", " \n"):
            result = await yard.search(query, mode=mode)  # type: ignore[arg-type]
            assert (list(result), result.degraded) == ([], None)
        assert embedding_server.counts.requests == 0
