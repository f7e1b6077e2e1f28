"""The command line as processes of its own: signals, pipes, terminals, several workers."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Docyard, Running

    Spawn = Callable[..., Running]

pytestmark = pytest.mark.slow


def _workers(url: str) -> list[tuple[int, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT pid, state FROM docyard.workers ORDER BY id").fetchall()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_worker_ends_cleanly_when_asked(spawn: Spawn, on_server: str, number: int) -> None:
    worker = spawn("worker")
    await eventually(lambda: _workers(on_server), what="the worker's row")
    worker.send(number)
    ended = worker.end()
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert _workers(on_server) == []


async def test_up_brings_database_and_worker_and_ends_cleanly(
    spawn: Spawn, docyard: Docyard, library: Path
) -> None:
    up = spawn("up")
    await eventually(lambda: "Ctrl-C ends it." in up.said, seconds=30, what=f"up; it said {up.said!r}")
    assert "is up: the embedded database in" in up.said
    assert "docyard ingest PATH --wait" in up.said
    waited = await asyncio.to_thread(spawn("ingest", library, "--wait").end)
    assert waited.code == 0
    assert "Files: 3 new of 3" in waited.out
    up.send(signal.SIGINT)
    ended = up.end()
    assert ended.code == 0
    assert "Traceback" not in ended.err


async def test_several_processes_register_are_replaced_and_stop(spawn: Spawn, on_server: str) -> None:
    supervisor = spawn("worker", "--processes", 2, "--concurrency", 3)
    await eventually(lambda: len(_workers(on_server)) == 2, seconds=30, what="two workers")
    killed = _workers(on_server)[0][0]
    os.kill(killed, signal.SIGKILL)

    def replaced() -> bool:
        alive = {pid for pid, state in _workers(on_server) if state == "running"}
        return len(alive - {killed}) == 2

    await eventually(replaced, seconds=30, what="a new process in the place of the killed one")
    supervisor.send(signal.SIGTERM)
    ended = supervisor.end()
    assert ended.code == 0
    assert "process.died" in ended.err
    assert "Traceback" not in ended.err
    assert {pid for pid, _ in _workers(on_server)} <= {killed}


async def test_no_process_outlives_a_supervisor_that_was_killed(spawn: Spawn, on_server: str) -> None:
    supervisor = spawn("worker", "--processes", 2)
    await eventually(lambda: len(_workers(on_server)) == 2, seconds=30, what="two workers")
    supervisor.send(signal.SIGKILL)
    await eventually(lambda: not _workers(on_server), seconds=30, what="the end of both")


async def test_an_interrupted_ingest_says_how_to_go_on(spawn: Spawn, on_server: str, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number}.txt").write_text(f"Text number {number}.")
    ingest = spawn("ingest", folder, "--work")
    await eventually(lambda: "worker.started" in ingest.said, seconds=30, what="the worker")
    ingest.send(signal.SIGINT)
    ended = ingest.end()
    assert ended.code == 130
    assert "Go on: docyard worker" in ended.err
    assert "Traceback" not in ended.err
    assert _workers(on_server) == []


async def test_a_users_own_handlers_run_beside_ours(
    spawn: Spawn, on_server: str, tmp_path: Path, docyard: Docyard
) -> None:
    from docyard_queue import NewJob, enqueue

    (tmp_path / "my_app.py").write_text(
        "from docyard_queue import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('charge', queue='billing')\n"
        "async def charge(attempt, payload):\n"
        "    return {'charged': payload['order']}\n"
    )
    with psycopg.connect(on_server) as connection:
        job_id = enqueue(connection, NewJob("charge", {"order": 7}, queue="billing"))
    worker = spawn("worker", "--app", "my_app:registry", "--queue", "billing")

    def result() -> Any:
        with psycopg.connect(on_server) as connection:
            return connection.execute(
                "SELECT result FROM docyard.procrastinate_jobs WHERE id = %s AND status = 'succeeded'",
                [job_id],
            ).fetchone()

    assert await eventually(result, seconds=30) == ({"charged": 7},)
    worker.send(signal.SIGTERM)
    assert worker.end().code == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_second_signal_ends_at_once(
    spawn: Spawn, on_server: str, tmp_path: Path, processes: int
) -> None:
    from docyard_queue import NewJob, enqueue

    (tmp_path / "slow_app.py").write_text(
        "import asyncio\n"
        "from docyard_queue import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('sleep')\n"
        "async def sleep(attempt, payload):\n"
        "    await asyncio.sleep(600)\n"
    )
    with psycopg.connect(on_server) as connection:
        enqueue(connection, NewJob("sleep"))
    worker = spawn("worker", "--app", "slow_app:registry", "--processes", processes)

    def running() -> bool:
        with psycopg.connect(on_server) as connection:
            return (
                connection.execute("SELECT 1 FROM docyard.jobs WHERE state = 'running'").fetchone()
                is not None
            )

    await eventually(running, seconds=30, what="the job to run")
    worker.send(signal.SIGINT)
    await eventually(lambda: "worker.stopping" in worker.said, seconds=10, what="the stop to begin")
    worker.send(signal.SIGINT)
    ended = worker.end(seconds=10)
    assert ended.code == 130
    assert "Traceback" not in ended.err


def test_a_closed_pipe_is_quiet(on_server: str) -> None:
    docyard = f"{sys.executable} -m docyard"
    script = f"{docyard} config schema | head -c 1; {docyard} config show | true"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"COLUMNS": "24"}])
def test_on_a_terminal_there_is_a_progress_bar(
    on_server: str, library: Path, variables: dict[str, str]
) -> None:
    said = _in_terminal(["ingest", str(library), "--work"], variables)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "Files: 3 new of 3" in plain.replace("\r\n", " ").replace("  ", " ")
    if "TERM" not in variables:
        assert "Reading" in plain
    if "NO_COLOR" in variables:
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", said)
    assert '"event"' not in said
    assert "Traceback" not in said


def _in_terminal(arguments: list[str], variables: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "docyard", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color"} | os.environ | variables,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(timeout=30) == 0, said.decode()
    return said.decode()
