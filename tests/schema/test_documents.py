"""Documents: stored, found unchanged, changed, removed, restored, listed."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.examples import a_document, passages, store

from docyard_schema import Conflict, DocumentRepository, InvalidInput, NotFound
from docyard_schema.documents.validity import check_document

if TYPE_CHECKING:
    from docyard_schema import Database


@pytest.fixture
def documents(database: Database) -> DocumentRepository:
    return DocumentRepository(database)


async def test_what_is_stored_comes_back_whole(documents: DocumentRepository) -> None:
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    owner = uuid.uuid4()
    new = a_document(
        "Ein Text: 1e2, „Zitat“ 🐝",
        kind="note",
        collection="c",
        title="T",
        tags=["x", "y"],
        metadata={"n": 1, "list": [1, "zwei"]},
        contents={"text": "…"},
        owner_id=owner,
        visibility="public",
        expires_at=expires,
    )
    stored = await documents.store(new, passages("Ein Text", heading="Oben"))
    assert (stored.changed, stored.added, stored.removed, stored.kept) == (True, 1, 0, 0)
    document = await documents.find("c", new.source_uri)
    assert document is not None
    assert document == await documents.get(stored.document_id)
    assert (document.kind, document.title, document.tags) == ("note", "T", ["x", "y"])
    assert document.metadata == {"n": 1, "list": [1, "zwei"]}
    assert (document.owner_id, document.visibility, document.expires_at) == (owner, "public", expires)
    assert document.current_version == stored.version
    version = await documents.version(stored.document_id)
    assert version is not None
    assert (version.raw, version.sha256, version.contents) == (new.raw, new.sha256, {"text": "…"})
    assert version.previous_version is None
    [chunk] = await documents.chunks(stored.document_id)
    assert (chunk.text, chunk.heading_path, chunk.ordinal) == ("Ein Text", ["Oben"], 0)
    assert await documents.current("c", new.source_uri) == (new.sha256, "1")


async def test_the_same_bytes_make_no_version_and_write_no_chunk(
    database: Database, documents: DocumentRepository
) -> None:
    first = await store(database, ["One.", "Two."])
    before = await documents.get(first.document_id)
    again = await store(database, ["One.", "Two."])
    assert again == type(again)(
        document_id=first.document_id, version=first.version, changed=False, added=0, removed=0, kept=2
    )
    assert await documents.get(first.document_id) == before
    assert len(await documents.versions(first.document_id)) == 1


async def test_the_same_bytes_through_another_pipeline_make_a_version(
    database: Database, documents: DocumentRepository
) -> None:
    first = await store(database, pipeline_version="1")
    second = await store(database, pipeline_version="2")
    assert second.changed
    assert (second.added, second.kept) == (0, 1)
    assert [version.version for version in await documents.versions(first.document_id)] == [
        first.version,
        second.version,
    ]


async def test_changed_bytes_make_exactly_one_version_on_top(
    database: Database, documents: DocumentRepository
) -> None:
    first = await store(database, ["One.", "Two."])
    second = await store(database, ["One.", "Three."])
    assert second.document_id == first.document_id
    assert (second.changed, second.added, second.removed, second.kept) == (True, 1, 1, 1)
    version = await documents.version(first.document_id)
    assert version is not None
    assert (version.version, version.previous_version) == (second.version, first.version)
    old = await documents.version(first.document_id, first.version)
    assert old is not None
    assert old.raw == "One.\n\nTwo."


async def test_a_new_description_of_the_same_bytes_is_kept_without_a_version(
    database: Database, documents: DocumentRepository
) -> None:
    first = await store(database, title="Old", tags=["a"])
    again = await store(database, title="New", tags=["b"], metadata={"x": 1}, kind="note")
    assert (again.changed, again.version) == (False, first.version)
    document = await documents.get(first.document_id)
    assert document is not None
    assert (document.title, document.tags, document.metadata, document.kind) == (
        "New",
        ["b"],
        {"x": 1},
        "note",
    )
    assert document.updated_at > document.created_at


async def test_what_is_removed_is_not_found_until_it_is_restored(
    database: Database, documents: DocumentRepository
) -> None:
    stored = await store(database)
    removed = await documents.remove(stored.document_id)
    assert removed.deleted_at is not None
    assert await documents.get(stored.document_id) is None
    assert await documents.find("default", "file:///a.txt") is None
    assert await documents.current("default", "file:///a.txt") is None
    assert await documents.list() == []
    assert await documents.version(stored.document_id) is None
    assert len(await documents.versions(stored.document_id)) == 1
    with pytest.raises(NotFound, match=f"no document {stored.document_id} to remove"):
        await documents.remove(stored.document_id)
    restored = await documents.restore(stored.document_id)
    assert restored.deleted_at is None
    assert await documents.get(stored.document_id) == restored
    with pytest.raises(NotFound, match="to restore"):
        await documents.restore(stored.document_id)


@pytest.mark.parametrize("texts", [("Some text.",), ("Another text.",)])
async def test_what_is_removed_and_stored_again_is_the_same_document(
    database: Database, documents: DocumentRepository, texts: tuple[str]
) -> None:
    first = await store(database)
    await documents.remove(first.document_id)
    again = await store(database, texts)
    assert again.document_id == first.document_id
    assert again.changed is (texts != ("Some text.",))
    document = await documents.get(first.document_id)
    assert document is not None
    assert document.deleted_at is None
    assert document.updated_at > document.created_at
    assert [chunk.text for chunk in await documents.chunks(first.document_id)] == list(texts)


async def test_replacing_another_version_than_the_current_is_a_conflict(
    database: Database, documents: DocumentRepository
) -> None:
    first = await store(database, ["1"])
    second = await documents.store(a_document("2"), replaces=first.version)
    with pytest.raises(Conflict, match=f"is at version {second.version}") as caught:
        await documents.store(a_document("3"), replaces=first.version)
    assert caught.value.details["current_version"] == second.version
    assert caught.value.retryable
    assert len(await documents.versions(first.document_id)) == 2


async def test_replacing_what_is_not_there_is_a_conflict_and_makes_nothing(
    documents: DocumentRepository,
) -> None:
    with pytest.raises(Conflict, match="is not there"):
        await documents.store(a_document(), replaces=uuid.uuid4())
    assert await documents.list() == []


async def test_versions_order_by_their_chain_and_not_by_their_time(
    database: Database, documents: DocumentRepository
) -> None:
    stored = [await store(database, [f"Text {number}."]) for number in range(6)]
    async with database.connection() as connection:
        # As after an import: all times lie, and backwards.
        await connection.execute(
            database.sql(
                "UPDATE docyard.document_versions SET created_at = now() - (raw ~ '[024]')::integer * "
                "interval '1 day' - right(rtrim(raw, '.'), 1)::integer * interval '1 hour'"
            )
        )
    found = await documents.versions(stored[0].document_id)
    assert [version.version for version in found] == [one.version for one in stored]
    assert [version.previous_version for version in found] == [None, *(one.version for one in stored[:-1])]
    current = await documents.version(stored[0].document_id)
    assert current is not None
    assert current.version == stored[-1].version


async def test_several_versions_of_one_transaction_have_one_time_and_the_right_order(
    database: Database, documents: DocumentRepository
) -> None:
    async with database.transaction() as connection:
        stored = [await store(database, [str(number)], connection=connection) for number in range(4)]
    found = await documents.versions(stored[0].document_id)
    assert len({version.created_at for version in found}) == 1
    assert [version.raw for version in found] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("one_transaction", [True, False])
async def test_25_documents_are_three_pages_without_gap_or_overlap(
    database: Database, documents: DocumentRepository, one_transaction: bool
) -> None:
    names = [f"{number:02}" for number in range(25)]
    if one_transaction:
        async with database.transaction() as connection:
            for name in names:
                await store(database, source_uri=name, connection=connection)
    else:
        for name in names:
            await store(database, source_uri=name)
    pages = [await documents.list(limit=10, offset=offset) for offset in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [document.source_uri for page in pages for document in page] == names[::-1]


async def test_lists_and_counts_filter_by_kind_and_collection(
    database: Database, documents: DocumentRepository
) -> None:
    for number, (kind, collection) in enumerate([("file", "a"), ("file", "b"), ("note", "a"), ("note", "a")]):
        await store(database, source_uri=str(number), kind=kind, collection=collection)
    gone = await store(database, source_uri="gone", kind="memo", collection="a")
    await documents.remove(gone.document_id)
    assert await documents.count_by_kind() == {"file": 2, "note": 2}
    assert await documents.count_by_kind(collection="a") == {"file": 1, "note": 2}
    assert await documents.count_by_kind(collection="none") == {}
    assert [one.source_uri for one in await documents.list(kind="note")] == ["3", "2"]
    assert [one.source_uri for one in await documents.list(kind="file", collection="b")] == ["1"]
    assert await documents.list(kind="memo") == []


@pytest.mark.parametrize(("limit", "offset"), [(-1, 0), (1, -1)])
async def test_a_page_that_cannot_be_is_refused(
    documents: DocumentRepository, limit: int, offset: int
) -> None:
    with pytest.raises(InvalidInput, match="limit and offset"):
        await documents.list(limit=limit, offset=offset)


async def test_equal_source_uris_of_two_collections_are_two_documents(database: Database) -> None:
    assert (await store(database, collection="a")).document_id != (
        await store(database, collection="b")
    ).document_id


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text": "a\x00b"}, "raw text"),
        ({"title": "a\x00"}, "title"),
        ({"source_uri": "a\x00"}, "source_uri"),
        ({"collection": "a\x00"}, "collection"),
        ({"tags": ["a\x00"]}, "tags"),
        ({"metadata": {"deep": [{"x": "a\x00"}]}}, "metadata"),
        ({"metadata": {"key\x00": 1}}, "metadata"),
        ({"contents": {"x": "a\x00"}}, "contents"),
    ],
)
def test_a_nul_character_is_refused_with_the_name_of_its_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"The {field} of .* contains a NUL character") as caught:
        check_document(a_document(**fields), ())  # type: ignore[arg-type]
    assert caught.value.hint
    assert caught.value.operation == "store"


async def test_a_nul_character_makes_no_document(documents: DocumentRepository) -> None:
    with pytest.raises(InvalidInput, match="The raw text of"):
        await documents.store(a_document("a\x00b"))
    assert await documents.list() == []
    with pytest.raises(InvalidInput, match="The chunk 1 of"):
        await documents.store(a_document(), passages("fine", "not\x00fine"))
    with pytest.raises(InvalidInput, match="The heading of chunk 0 of"):
        await documents.store(a_document(), passages("fine", heading="not\x00fine"))


async def test_a_backslash_before_u0000_is_text_and_not_a_nul(documents: DocumentRepository) -> None:
    stored = await documents.store(a_document("\\u0000", metadata={"x": "\\u0000", "y": "\\\\u0000"}))
    document = await documents.get(stored.document_id)
    assert document is not None
    assert document.metadata == {"x": "\\u0000", "y": "\\\\u0000"}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"source_uri": b"caf\xe9.txt".decode(errors="surrogateescape")}, "source_uri .* half a character"),
        ({"text": "x\ud800"}, "raw text .* half a character"),
        ({"metadata": {"x": "\udcff"}}, "metadata .* half a character"),
        ({"kind": ""}, "needs a kind"),
        ({"source_uri": ""}, "needs a source_uri"),
        ({"sha256": b"short"}, "sha256 is 32 bytes, got 5"),
        ({"source_uri": "x" * 3000}, "have 3007 bytes together, 2600 at most"),
        ({"expires_at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_stored_is_refused_in_words(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        check_document(a_document(**fields), ())  # type: ignore[arg-type]


async def test_a_long_source_uri_within_the_limit_is_stored(documents: DocumentRepository) -> None:
    name = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyzäöü", k=2200))[:2200]
    name = name.encode()[:2500].decode(errors="ignore")
    stored = await documents.store(a_document(source_uri=name))
    found = await documents.find("default", name)
    assert found is not None
    assert found.id == stored.document_id


async def test_two_texts_of_one_version_number_cannot_be(database: Database) -> None:
    stored = await store(database)
    async with database.connection() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation, match="document_versions_chain"):
            await connection.execute(
                database.sql(
                    "INSERT INTO docyard.document_versions (document_id, version, media_type, sha256, "
                    "pipeline_version) VALUES (%s, %s, 'x', %s, '1')"
                ),
                [stored.document_id, uuid.uuid4(), b"x" * 32],
            )
