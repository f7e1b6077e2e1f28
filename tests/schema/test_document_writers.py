"""Many writers of one document: one wins, the others are told, and no half of anything is ever seen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import opened
from psycopg import IsolationLevel
from support.examples import a_document, passages, store

from docyard_schema import Conflict, DocumentRepository, Stored

if TYPE_CHECKING:
    from docyard_schema import Database


async def test_of_eight_writers_that_replace_one_version_one_wins_and_seven_are_told(
    database: Database,
) -> None:
    documents = DocumentRepository(database)
    first = await store(database, ["Zero."])
    outcomes = await asyncio.gather(
        *(
            documents.store(a_document(f"{number}"), passages(f"{number}"), replaces=first.version)
            for number in range(8)
        ),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert (len(won), len(lost)) == (1, 7)
    assert {error.details["current_version"] for error in lost} == {won[0].version}
    versions = await documents.versions(first.document_id)
    assert [version.version for version in versions] == [first.version, won[0].version]
    [chunk] = await documents.chunks(first.document_id)
    assert chunk.text == versions[-1].raw


async def test_the_same_bytes_from_eight_writers_make_one_document_of_one_version(database: Database) -> None:
    outcomes = await asyncio.gather(*(store(database, ["Same.", "Bytes."]) for _ in range(8)))
    assert len({outcome.document_id for outcome in outcomes}) == 1
    assert len({outcome.version for outcome in outcomes}) == 1
    assert [outcome.changed for outcome in outcomes].count(True) == 1
    documents = DocumentRepository(database)
    assert len(await documents.versions(outcomes[0].document_id)) == 1
    assert len(await documents.chunks(outcomes[0].document_id)) == 2


async def test_different_bytes_from_eight_writers_line_up_in_one_chain(database: Database) -> None:
    outcomes = await asyncio.gather(*(store(database, [f"{number}", "Common."]) for number in range(8)))
    documents = DocumentRepository(database)
    versions = await documents.versions(outcomes[0].document_id)
    assert {version.version for version in versions} == {outcome.version for outcome in outcomes}
    assert len(versions) == 8
    chunks = [chunk.text for chunk in await documents.chunks(outcomes[0].document_id)]
    assert chunks == [versions[-1].raw.split("\n")[0], "Common."]  # type: ignore[union-attr]


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
async def test_under_a_stricter_isolation_the_later_writer_gets_a_conflict(
    database: Database, level: IsolationLevel
) -> None:
    documents = DocumentRepository(database)
    await store(database, ["Zero."])

    async def write_late() -> None:
        async with database.transaction(isolation=level) as connection:
            await documents.list(connection=connection)
            await store(database, ["One."])
            await documents.store(a_document("Two."), connection=connection)

    with pytest.raises(Conflict, match="Another writer changed") as caught:
        await write_late()
    assert caught.value.retryable


async def test_writers_of_many_documents_in_any_order_do_not_wait_for_each_other_for_ever(
    database: Database,
) -> None:
    async def write(number: int) -> None:
        for name in sorted("abcdef", reverse=bool(number % 2)):
            await store(database, [f"{number}", "Common."], source_uri=name)

    async with asyncio.timeout(30):
        await asyncio.gather(*(write(number) for number in range(6)))
    assert await DocumentRepository(database).count_by_kind() == {"file": 6}


async def test_a_writer_that_is_killed_leaves_nothing_half_written(database: Database, url: str) -> None:
    documents = DocumentRepository(database)
    first = await store(database, ["Old."])
    script = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from support.examples import store
from docyard_schema import Database

async def main():
    async with await Database.connect(sys.argv[1]) as database, database.transaction() as connection:
        await store(database, ["New.", *map(str, range(2000))], connection=connection)
        await store(database, ["Another."], source_uri="b", connection=connection)
        print("written", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
    [tests] = [path for path in sys.path if path.endswith("tests")][:1]
    process = subprocess.Popen([sys.executable, "-c", script, url, tests], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"written\n"
        assert [one.current_version for one in await documents.list()] == [first.version]
    finally:
        process.kill()
        process.communicate()
    # The next writer waits for the dead one's row lock no longer than the server needs to notice.
    async with asyncio.timeout(20):
        second = await store(database, ["New."])
    assert second.changed
    assert [version.version for version in await documents.versions(first.document_id)] == [
        first.version,
        second.version,
    ]
    assert [chunk.text for chunk in await documents.chunks(first.document_id)] == ["New."]
    assert await documents.count_by_kind() == {"file": 1}


async def test_a_connection_that_is_cut_between_two_writes_leaves_neither(
    database: Database, url: str
) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            await store(database, source_uri="a", connection=connection)
            async with opened(url) as other, other.connection() as killer:
                await killer.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            await store(database, source_uri="b", connection=connection)

    with pytest.raises(psycopg.OperationalError):
        await write()
    assert await DocumentRepository(database).count_by_kind() == {}
