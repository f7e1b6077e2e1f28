"""docyard's own jobs under the kit: ingested inline, and whole wherever their worker is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.yards import open_yard, rows

from docyard.testing import AT_ONCE, assert_enqueued, crash_at, drain

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_folder_is_ingested_and_found_without_a_worker(url: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("Marmots whistle when an eagle comes.")
    async with open_yard(url) as yard:
        await yard.ingest([tmp_path])
        assert_enqueued(yard.database, "ingest", count=1)
        (await drain(yard.database, yard.registry)).require_no_errors()
        assert [hit.title for hit in await yard.search("marmots")] == ["note"]


@pytest.mark.slow
async def test_a_document_is_stored_once_wherever_its_ingest_is_killed(url: str, tmp_path: Path) -> None:
    async with open_yard(url) as yard:
        for wait in range(1, 100):
            folder = tmp_path / str(wait)
            folder.mkdir()
            (folder / "note.txt").write_text(f"Marmot number {wait} whistles when an eagle comes.")
            await yard.ingest([folder])
            crash = crash_at("in_handler", "ingest", wait=wait)
            (await drain(yard.database, yard.registry, backoff=AT_ONCE, crash=crash)).require_no_errors()
            assert await rows(yard.database, "SELECT count(*) FROM docyard.document_versions") == [(wait,)]
            assert await rows(yard.database, "SELECT count(*) FROM docyard.chunks") == [(wait,)]
            assert await rows(yard.database, "SELECT count(*) FROM docyard.embeddings") == [(wait,)]
            if not crash.happened:
                break
        assert 4 < wait < 99
