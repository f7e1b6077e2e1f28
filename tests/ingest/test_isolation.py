"""A child process bears what a document does; its neighbours and its parent go on."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from ingest import misbehaving

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest import child_process
from docyard_workers.ingest.errors import (
    ParseFailed,
    ParserCrashed,
    ParserMemory,
    ParseTimeout,
    PoolClosed,
    SourceMissing,
    UnsupportedMedia,
)
from docyard_workers.ingest.isolation import ChildPool
from docyard_workers.ingest.preparation import ChunkOptions, prepare

SOON = timedelta(seconds=0.3)


@pytest.fixture
async def pool():
    async with ChildPool(1) as pool:
        yield pool


async def test_parse_gives_what_it_gives_in_process(pool):
    data = b"# Title\n\nSome words.\n\n## Part\n\n" + b"More words follow here. " * 200
    there = await pool.parse(data, None, "notes.md", ChunkOptions(size=300))
    assert there == prepare(data, None, "notes.md", ChunkOptions(size=300))
    assert len(there.chunks) > 10
    assert there.document.title == "Title"


async def test_a_path_is_read_by_the_child(pool, tmp_path):
    (tmp_path / "a.txt").write_text("words in a file")
    assert (await pool.parse(tmp_path / "a.txt", None, "a.txt")).chunks[0].text == "words in a file"


async def test_typed_errors_come_back_whole(pool, tmp_path):
    with pytest.raises(UnsupportedMedia) as caught:
        await pool.parse(b"%PDF-1.7 ...", None, "a.pdf")
    assert caught.value.details["media_type"] == "application/pdf"
    with pytest.raises(SourceMissing):
        await pool.parse(tmp_path / "gone.txt", None, "gone.txt")


async def test_a_hanging_parser_is_killed_at_its_deadline_and_the_pool_goes_on(pool):
    before = await pool.run(misbehaving.process_id)
    with pytest.raises(ParseTimeout) as caught:
        await pool.run(misbehaving.hang, deadline=SOON)
    assert caught.value.retryable
    after = await pool.run(misbehaving.process_id)
    assert after != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


@pytest.mark.parametrize(
    ("function", "arguments", "code"),
    [(misbehaving.exit_at_once, (3,), 3), (misbehaving.segfault, (), -signal.SIGSEGV)],
)
async def test_a_crash_is_named_and_the_pool_goes_on(pool, function, arguments, code):
    with pytest.raises(ParserCrashed) as caught:
        await pool.run(function, *arguments)
    assert caught.value.details["exit_code"] == code
    assert await pool.run(len, b"four") == 4


async def test_a_crash_of_one_call_leaves_those_beside_it_alone():
    async with ChildPool(2) as pool:
        calls = [pool.run(misbehaving.exit_at_once, 1), *(pool.run(len, b"x" * n) for n in range(20))]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], ParserCrashed)
    assert results[1:] == list(range(20))


async def test_memory_is_capped():
    async with ChildPool(1, memory_bytes=512 << 20) as pool:
        assert await pool.run(misbehaving.take_memory, 16) == 16 << 20
        with pytest.raises(ParserMemory, match="512 MiB"):
            await pool.run(misbehaving.take_memory, 1024)
        with pytest.raises(ParserMemory):
            await pool.run(misbehaving.abort_as_rust_does)
        page = b"<html><body><h1>Kreuzberg</h1><p>fits under the cap</p></body></html>"
        assert "fits under" in (await pool.parse(page, None, "a.html")).chunks[0].text


async def test_errors_that_do_not_travel_are_told_in_words(pool):
    with pytest.raises(RuntimeError, match="Unloadable: two words"):
        await pool.run(misbehaving.raise_unloadable)
    with pytest.raises(RuntimeError, match="Panic: index out of bounds"):
        await pool.run(misbehaving.panic)
    with pytest.raises(RuntimeError, match="pickle"):
        await pool.run(misbehaving.unpicklable)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)
    assert await pool.run(len, b"x") == 1


async def test_a_parser_that_fails_in_its_own_way_is_a_failed_parse(pool):
    with pytest.raises(ParseFailed, match=r"a\.md.*TypeError"):
        await pool.parse("not bytes", None, "a.md")  # type: ignore[arg-type]


async def test_what_a_parser_prints_does_not_reach_the_channel(pool):
    assert await pool.run(misbehaving.print_much) == "said"
    assert await pool.run(len, b"x") == 1


async def test_large_documents_travel_both_ways(pool):
    data = b"some words in a line\n" * 500_000
    assert (await pool.parse(data, "text/plain", "big.txt")).document.text == data.decode()


async def test_a_child_is_reused_then_replaced_after_its_calls():
    async with ChildPool(1, max_calls=2) as pool:
        ids = [await pool.run(misbehaving.process_id) for _ in range(4)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


async def test_a_child_that_died_while_idle_costs_no_call(pool):
    child = await pool.run(misbehaving.process_id)
    os.kill(child, signal.SIGKILL)
    while any(child.alive for child in pool._idle):
        await asyncio.sleep(0.01)
    assert await pool.run(misbehaving.process_id) != child


async def test_cancelling_kills_the_child(pool, tmp_path):
    marker = tmp_path / "pid"
    task = asyncio.create_task(pool.run(misbehaving.spin, str(marker)))
    while not marker.exists() or not marker.read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)
    assert await pool.run(len, b"x") == 1


async def test_children_hold_no_secrets_no_drivers_and_no_terminal(pool, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("DOCYARD_DATABASE_URL", "postgresql://u:p@h/d")
    assert "p@h" not in str(await pool.run(misbehaving.environment))
    assert "sk-secret" not in str(await pool.run(misbehaving.environment))
    assert not {"psycopg", "openai", "procrastinate", "pydantic"} & await pool.run(misbehaving.loaded_modules)
    assert await pool.run(misbehaving.ignores_interrupts)


async def test_close_ends_calls_in_flight_and_may_be_called_twice():
    pool = ChildPool(1)
    task = asyncio.create_task(pool.run(misbehaving.hang))
    while not pool._children or not all(child.calls for child in pool._children):
        await asyncio.sleep(0.01)
    await pool.close()
    await pool.close()
    with pytest.raises(ParserCrashed):
        await task
    with pytest.raises(PoolClosed):
        await pool.parse(b"", None, "a.md")


async def test_a_child_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(child_process, "_BOOT", "raise ImportError('no module named thing')")
    async with ChildPool(1) as pool:
        with pytest.raises(ParserCrashed, match="no module named thing"):
            await pool.run(len, b"")
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(ParserCrashed, match="could be started"):
            await pool.run(len, b"")


def test_nonsense_is_refused():
    for arguments in ({"processes": 0}, {"max_calls": 0}, {"deadline": timedelta(0)}):
        with pytest.raises(InvalidInput):
            ChildPool(**arguments)


PARENT = """
    import asyncio, sys, time
    from docyard_workers.ingest.isolation import ChildPool
    sys.path.append({tests!r})
    from ingest import misbehaving

    async def main():
        pool = ChildPool(1)
        print(await pool.run(misbehaving.process_id), flush=True)
        await pool.run(misbehaving.spin, {marker!r})

    asyncio.run(main())
"""


def test_children_die_with_a_parent_that_is_killed_and_a_script_needs_no_main_guard(tmp_path):
    marker = tmp_path / "pid"
    script = tmp_path / "parent.py"
    tests = str(Path(misbehaving.__file__).parent.parent)
    script.write_text(textwrap.dedent(PARENT).format(tests=tests, marker=str(marker)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        while not marker.exists() or not marker.read_text():
            assert parent.poll() is None
        parent.kill()
    for _ in range(500):
        if not _runs(child):
            break
        signal.sigtimedwait([], 0.01)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
