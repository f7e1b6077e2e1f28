"""docyard's own handlers, and those of ``--app``, in child processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from support.eventually import eventually
from support.worker_process import worker_process
from support.yards import WORDLLAMA, asking, open_yard, rows, value

from docyard_queue import NewJob, PostgresEngine

if TYPE_CHECKING:
    from pathlib import Path

    from support.embedding_server import EmbeddingServer

pytestmark = pytest.mark.slow


async def test_docyards_own_jobs_run_alone_in_children(
    url: str, small_folder: Path, embedding_server: EmbeddingServer
) -> None:
    kept = sorted(path for path in small_folder.rglob("*") if path.is_file())
    for path in kept[3:]:
        path.unlink()
    async with open_yard(url, asking(embedding_server)) as yard:
        await yard.ingest([small_folder])
        await rows(yard.database, "UPDATE docyard.procrastinate_jobs SET alone = true RETURNING id")
        with structlog.testing.capture_logs() as logs:
            await yard.work()
        assert "job.secluded" not in [entry["event"] for entry in logs], "a child found them"
        began = await rows(
            yard.database,
            "SELECT DISTINCT began_alone FROM docyard.procrastinate_jobs WHERE task_name = 'ingest'",
        )
        assert began == [(1,)]
        assert await value(yard.database, "SELECT count(*) FROM docyard.documents") == 3
        assert await value(yard.database, "SELECT count(*) FROM docyard.embeddings") > 0
        states = await rows(yard.database, "SELECT DISTINCT state FROM docyard.jobs")
        assert states == [("completed",)]


_APP = """
import os
from docyard_queue import Registry

registry = Registry()


def register(kind):
    @registry.handler(kind, isolated=True)
    def handler(attempt, payload):
        return {"kind": kind, "pid": os.getpid()}


register("made")
"""


async def test_the_handlers_of_an_app_are_found_by_its_registry(url: str, tmp_path: Path) -> None:
    (tmp_path / "own_jobs.py").write_text(_APP)
    log = tmp_path / "worker.log"
    with worker_process(url, log, WORDLLAMA, "--app", "own_jobs:registry", folder=tmp_path) as worker:
        async with open_yard(url) as yard:
            await PostgresEngine(yard.database).enqueue([NewJob("made", max_attempts=1)])
            await eventually(lambda: value(yard.database, _ENDED), seconds=60)
            result = await value(yard.database, "SELECT result FROM docyard.procrastinate_jobs")
        assert result is not None, log.read_text()
        assert result["kind"] == "made"
        assert result["pid"] != worker.process.pid
        assert worker.stop() == 0


_ENDED = "SELECT count(*) FROM docyard.jobs WHERE state IN ('completed', 'dead')"
