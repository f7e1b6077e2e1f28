"""What docs/operations.md says of backups is tried here: dump, restore elsewhere, go on working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.unprivileged import open_folder
from support.yards import WORDLLAMA, ingest, open_yard, rows

from docyard import Docyard, load_settings
from docyard_schema.embedded.binaries import find_binaries
from docyard_schema.migrations import find_drift, load_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "backup.py"

_CONTENTS = """
SELECT (SELECT count(*) FROM docyard.documents), (SELECT count(*) FROM docyard.document_versions),
    (SELECT count(*) FROM docyard.chunks), (SELECT count(*) FROM docyard.embeddings),
    (SELECT count(*) FROM docyard.jobs), (SELECT md5(string_agg(embedding::text, ',' ORDER BY chunk_id))
        FROM docyard.embeddings)
"""


def _run(*command: object, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def _pg(program: str, *arguments: object) -> str:
    return _run(find_binaries()[18].program(program), *arguments)


async def _is_found(yard: Docyard) -> None:
    for mode in ("hybrid", "text", "vector"):
        result = await yard.search("python package", mode=mode)
        assert result.degraded is None
        assert len(result) > 0, mode


async def _goes_on(yard: Docyard, folder: Path, files: int) -> None:
    """Everything is found, nothing is done twice, and new work is done."""
    await _is_found(yard)
    assert (await ingest(yard, folder)).unchanged == files
    (folder / "after.txt").write_text("Wombats dig their burrows at dusk.")
    assert (await ingest(yard, folder)).embedded == 1
    assert [hit.title for hit in await yard.search("wombats", mode="text")] == ["after"]


async def test_a_dump_restored_into_an_empty_database_goes_on_working(
    url: str, empty_url: str, folder: Path, tmp_path: Path
) -> None:
    async with open_yard(url) as yard:
        files = (await ingest(yard, folder)).created
        await yard.ingest([folder], collection="waiting")
        before = await rows(yard.database, _CONTENTS)
    dump = tmp_path / "docyard.dump"
    only_ours = ["--schema=docyard", "--extension=vector"]
    _pg("pg_dump", "--format=custom", *only_ours, f"--file={dump}", url)
    _pg("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={empty_url}", dump)
    async with open_yard(empty_url) as yard:
        assert await rows(yard.database, _CONTENTS) == before
        async with yard.database.dedicated() as connection:
            assert await find_drift(connection, yard.database.namespace, to=len(load_steps())) == []
        await yard.work()
        states = await rows(yard.database, "SELECT DISTINCT state FROM docyard.jobs")
        assert states == [("completed",)], "jobs that waited when the dump was made are done"
        await _goes_on(yard, folder, files)


def _embedded(home: Path) -> Docyard:
    return Docyard.open(settings=load_settings(environment=WORDLLAMA, home=home))


@pytest.fixture
def homes() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.mark.slow
async def test_the_embedded_database_is_backed_up_while_used_and_when_stopped(
    homes: Path, small_folder: Path
) -> None:
    async with _embedded(homes / "old") as yard:
        files = (await ingest(yard, small_folder)).created
        before = await rows(yard.database, _CONTENTS)
        _run(sys.executable, EXAMPLE, "dump", homes / "old", homes / "docyard.dump")
    _run(sys.executable, EXAMPLE, "restore", homes / "docyard.dump", homes / "new")
    async with _embedded(homes / "new") as yard:
        assert await rows(yard.database, _CONTENTS) == before
        await _goes_on(yard, small_folder, files)
        refused = subprocess.run(
            [sys.executable, EXAMPLE, "restore", homes / "docyard.dump", homes / "new"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert refused.returncode == 1
        assert "new folder" in refused.stderr
    # Nobody uses the old one now: its folder is the backup.
    _run("cp", "-a", homes / "old", homes / "copy")
    async with _embedded(homes / "copy") as yard:
        assert await rows(yard.database, _CONTENTS) == before
        await _is_found(yard)
