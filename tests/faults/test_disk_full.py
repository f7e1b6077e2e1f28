"""Line 18: the disk is full in the moment in which an outcome is to be written."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.queueing import add, attempts, query, states
from support.scratch_server import ScratchServer
from support.working import AT_ONCE, running

from docyard_queue import NewJob, Registry
from docyard_schema import Database

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.fault(18)]


def working() -> tuple[Registry, asyncio.Event]:
    """Handlers that wait for the event; one then gives a long result, the other a long error."""
    registry, gate = Registry(), asyncio.Event()

    @registry.handler("gives")
    async def gives(attempt: Any, payload: Any) -> str:
        await gate.wait()
        return os.urandom(100_000).hex()

    @registry.handler("fails", max_attempts=2, backoff=AT_ONCE)
    async def fails(attempt: Any, payload: Any) -> None:
        await gate.wait()
        raise ValueError(os.urandom(20_000).hex())

    return registry, gate


async def has_ended(database: Database) -> bool:
    return sorted(await states(database)) == ["completed"] * 4 + ["dead"] * 4


async def running_jobs(database: Database) -> int:
    return (await states(database)).count("running")


async def test_outcomes_that_the_full_disk_refused_are_written_when_there_is_room_again(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every UPDATE of a job is refused as a full disk refuses it, also those of claims."""
    registry, gate = working()
    await query(database, "CREATE TABLE public.disk (is_full boolean)")
    await query(
        database,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT FROM public.disk WHERE is_full) THEN "
        "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; "
        "END IF; RETURN NEW; END $$",
    )
    await query(
        database,
        "CREATE TRIGGER refuse BEFORE UPDATE ON docyard.procrastinate_jobs "
        "FOR EACH ROW EXECUTE FUNCTION public.refuse()",
    )
    await add(database, *[NewJob(kind) for kind in ("gives", "fails")] * 4)
    async with running(database, registry, heartbeat_seconds=0.3, poll_seconds=0.3) as worker:
        await eventually(lambda: all_run(database))
        await query(database, "INSERT INTO public.disk VALUES (true)")
        gate.set()
        await eventually(lambda: "finish.deferred" in capsys.readouterr().out)
        await query(database, "TRUNCATE public.disk")
        await eventually(lambda: has_ended(database), seconds=30)
        assert (worker.completed, worker.failed) == (4, 4)
    assert {len(await attempts(database, job_id)) for job_id in (2, 4, 6, 8)} == {2}


async def all_run(database: Database) -> bool:
    return await running_jobs(database) == 8


@pytest.fixture
def small_disk() -> Iterator[tuple[ScratchServer, Path]]:
    """A server, and a folder of 40 MB for a tablespace."""
    server = ScratchServer().start()
    folder = server.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "docyard-test", str(folder)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small disk")
        try:
            (folder / "space").mkdir()
            server._account.give(folder / "space")
            yield server, folder / "space"
        finally:
            server.stop(immediate=True)
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        server.remove()


@pytest.fixture
async def on_small_disk(small_disk: tuple[ScratchServer, Path]) -> AsyncIterator[Database]:
    server, folder = small_disk
    server.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    server.execute("CREATE DATABASE cramped TABLESPACE small")
    async with await Database.connect(server.local_url("cramped")) as database:
        yield await database.initialize(migrate_schema=True)


async def test_a_disk_that_is_really_full_keeps_no_job_running_for_ever(
    on_small_disk: Database, small_disk: tuple[ScratchServer, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    database = on_small_disk
    registry, gate = working()
    await add(database, *[NewJob(kind) for kind in ("gives", "fails")] * 4)
    async with running(database, registry, heartbeat_seconds=0.3, poll_seconds=0.3) as worker:
        await eventually(lambda: all_run(database))
        ballast = small_disk[1].parent / "ballast"
        with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
            fill_up(file)
        gate.set()
        await eventually(lambda: "No space left on device" in capsys.readouterr().out)
        assert "completed" not in await states(database)
        ballast.unlink()
        await eventually(lambda: has_ended(database), seconds=30)
        assert (worker.completed, worker.failed) == (4, 4)


def fill_up(file: io.FileIO) -> None:
    while True:
        # At the end a write may be a short one.
        file.write(bytes(1_000_000))
