"""How much of the text a model covers, and what is left in ranges, counted by the database."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from support.examples import an_identity, embed, store
from support.yards import rows

from docyard_schema import DocumentRepository, ModelRepository, VectorRepository
from docyard_schema.embeddings.coverage import (
    Coverage,
    MissingRange,
    Workload,
    coverage,
    missing_ranges,
    refused_chunks,
    workload,
)

if TYPE_CHECKING:
    import pytest

    from docyard_schema import Database, EmbeddingModel


async def ranges(database: Database, model: EmbeddingModel, size: int) -> list[MissingRange]:
    async with database.transaction() as connection:
        return [part async for part in missing_ranges(database, model, size=size, connection=connection)]


async def chunk_ids(database: Database) -> list[int]:
    return [row[0] for row in await rows(database, "SELECT id FROM docyard.chunks ORDER BY id")]


async def test_chunks_are_embedded_missing_or_refused_and_those_of_deleted_documents_do_not_count(
    database: Database,
) -> None:
    model = await ModelRepository(database).use(an_identity())
    first = await store(database, ["One.", "Two."], source_uri="a")
    await store(database, ["Three.", "Four."], source_uri="b")
    gone = await store(database, ["Five."], source_uri="c")
    await embed(database, model, [first])
    await DocumentRepository(database).remove(gone.document_id)
    [*_, third, fourth, _fifth] = await chunk_ids(database)
    failures = [(third, "too_long", "It is too long.")]
    await VectorRepository(database).record_failures(model, failures)
    found = await coverage(database, model)
    assert found == Coverage(chunks=4, embedded=2, failed=1)
    assert found.missing == 1
    assert await ranges(database, model, 10) == [MissingRange(first=fourth, last=fourth, chunks=1)]
    [refused] = await refused_chunks(database, model)
    assert (refused.chunk_id, refused.source_uri, refused.code) == (third, "b", "too_long")


async def test_what_is_missing_is_cut_into_ranges_in_the_order_of_the_ids(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity())
    await store(database, [f"Text {number}." for number in range(7)], source_uri="a")
    done = await store(database, ["Done already."], source_uri="b")
    await store(database, [f"Other {number}." for number in range(3)], source_uri="c")
    await embed(database, model, [done])
    ids = await chunk_ids(database)
    found = await ranges(database, model, 4)
    assert [part.chunks for part in found] == [4, 4, 2]
    assert (found[0].first, found[-1].last) == (ids[0], ids[-1])
    assert all(before.last < after.first for before, after in pairwise(found))


async def test_ranges_go_on_from_window_to_window(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await ModelRepository(database).use(an_identity())
    await store(database, [f"Text {number}." for number in range(25)], source_uri="a")
    [whole] = await ranges(database, model, 1000)
    monkeypatch.setattr("docyard_schema.embeddings.coverage._CHUNKS_PER_STATEMENT", 10)
    found = await ranges(database, model, 5)
    assert [part.chunks for part in found] == [5] * 5
    assert whole == MissingRange(first=found[0].first, last=found[-1].last, chunks=25)


async def test_equal_texts_travel_once_and_known_ones_not_at_all(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity())
    known = await store(database, ["Known."], source_uri="a")
    await embed(database, model, [known])
    await store(database, ["Known.", "New.", "New."], source_uri="b")
    await store(database, ["New."], source_uri="c")
    assert await workload(database, model) == Workload(chunks=4, texts=1, tokens=1)
    assert await workload(database, None) == Workload(chunks=5, texts=2, tokens=3)


async def test_a_vector_of_another_text_is_missing(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity())
    stored = await store(database, ["One."], source_uri="a")
    await embed(database, model, [stored])
    await rows(database, "UPDATE docyard.embeddings SET content_hash = sha256('x') RETURNING 1")
    assert (await coverage(database, model)).missing == 1
