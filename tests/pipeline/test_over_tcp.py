"""The same against a server over TCP, with a password in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually
from support.scratch_server import PASSWORD, ScratchServer
from support.worker_process import worker_process
from support.yards import WORDLLAMA, ingest, open_yard

from docyard_schema import SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    server = ScratchServer()
    try:
        server.start()
        server.execute("CREATE DATABASE application")
        yield server.url("application")
    finally:
        server.remove()


@pytest.mark.slow
async def test_ingest_work_and_search_over_tcp(
    server_url: str, small_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SchemaMismatch, match="docyard db migrate"):
        async with open_yard(server_url):
            pass
    migrating = WORDLLAMA | {"DOCYARD_AUTO_MIGRATE": "1"}
    async with open_yard(server_url, migrating) as yard:
        assert yard.database.backend == "server"
        files = (await ingest(yard, small_folder)).created
        assert files == 12
        assert (await ingest(yard, small_folder)).unchanged == files
        (tmp_path / "note.txt").write_text("Marmots whistle when an eagle comes.")
        log = tmp_path / "worker.log"
        with worker_process(server_url, log, WORDLLAMA) as worker:
            await eventually(lambda: worker.ready, seconds=60)
            batch = await yard.ingest([tmp_path / "note.txt"])
            await batch.done(timeout=60)
            assert worker.stop() == 0
        [hit] = await yard.search("marmots", mode="text")
        assert hit.title == "note"
        told = log.read_text() + "".join(capfd.readouterr()) + repr(yard.database) + yard.database.describe()
        assert PASSWORD not in told
