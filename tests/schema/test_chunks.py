"""An edit touches the chunks that changed, and no other row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import a_document, an_identity, embed, passages, store

from docyard_schema import DocumentRepository, ModelRepository
from docyard_schema.documents import content_hash, embedding_input, identify

if TYPE_CHECKING:
    from uuid import UUID

    from docyard_schema import Database

BOOK = [f"Paragraph {number} of a long book about bees and their honey." for number in range(5000)]


async def rows(database: Database, document_id: UUID) -> dict[int, tuple[Any, ...]]:
    """Every chunk's row by its id, with the transaction that wrote it and its place in the table."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(
                "SELECT id, ordinal, occurrence, text, xmin::text, ctid::text FROM docyard.chunks "
                "WHERE document_id = %s ORDER BY ordinal"
            ),
            [document_id],
        )
        return {id: tuple(rest) for id, *rest in await cursor.fetchall()}


async def lexemes(database: Database, document_id: UUID) -> list[str]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql("SELECT lexemes::text FROM docyard.chunks WHERE document_id = %s ORDER BY ordinal"),
            [document_id],
        )
        return [text for (text,) in await cursor.fetchall()]


async def test_one_edited_paragraph_of_a_book_touches_its_row_only(database: Database) -> None:
    first = await store(database, BOOK)
    before = await rows(database, first.document_id)
    assert (first.added, len(before)) == (5000, 5000)
    edited = [*BOOK[:2500], "An edited paragraph.", *BOOK[2501:]]
    second = await store(database, edited)
    assert (second.added, second.removed, second.kept) == (1, 1, 4999)
    after = await rows(database, first.document_id)
    touched = set(before.items()) ^ set(after.items())
    assert len(touched) == 2
    assert [row[2] for row in after.values()] == edited


async def test_a_paragraph_put_in_moves_ordinals_and_keeps_rows_and_vectors(database: Database) -> None:
    model = await ModelRepository(database).use(an_identity())
    first = await store(database, ["One.", "Two.", "Three."])
    assert await embed(database, model, [first]) == 3
    before = await rows(database, first.document_id)
    second = await store(database, ["Zero.", "One.", "Three.", "Two."])
    assert (second.added, second.removed, second.kept) == (1, 0, 3)
    after = await rows(database, first.document_id)
    assert set(before) < set(after)
    assert [row[2] for row in after.values()] == ["Zero.", "One.", "Three.", "Two."]
    assert await embed(database, model, [first]) == 1


async def test_equal_paragraphs_are_told_apart_by_their_occurrence(database: Database) -> None:
    first = await store(database, ["Same.", "Other.", "Same.", "Same."])
    before = await rows(database, first.document_id)
    assert [row[1] for row in before.values()] == [0, 0, 1, 2]
    second = await store(database, ["Same.", "Same.", "Other."])
    assert (second.added, second.removed, second.kept) == (0, 1, 3)
    after = await rows(database, first.document_id)
    assert set(after) < set(before)
    assert [(row[0], row[2]) for row in after.values()] == [(0, "Same."), (1, "Same."), (2, "Other.")]


async def test_another_heading_makes_another_chunk(database: Database) -> None:
    documents = DocumentRepository(database)
    first = await documents.store(a_document("1"), passages("Text.", heading="Old"))
    second = await documents.store(a_document("2"), passages("Text.", heading="New"))
    assert (second.added, second.removed) == (1, 1)
    [chunk] = await documents.chunks(first.document_id)
    assert chunk.heading_path == ["New"]


async def test_a_line_that_becomes_a_heading_makes_another_chunk(database: Database) -> None:
    # What is embedded is the same text, but not what is shown.
    documents = DocumentRepository(database)
    assert embedding_input(["Title"], "Text.") == embedding_input([], "Title\n\nText.")
    stored = await documents.store(a_document("1"), passages("Title\n\nText."))
    await documents.store(a_document("2"), passages("Text.", heading="Title"))
    [chunk] = await documents.chunks(stored.document_id)
    assert (chunk.text, chunk.heading_path) == ("Text.", ["Title"])


async def test_a_new_title_is_found_in_every_chunk_even_those_that_are_kept(database: Database) -> None:
    first = await store(database, ["One.", "Two."], title="Wasps")
    await store(database, ["One.", "Three."], title="Hornets")
    for text in await lexemes(database, first.document_id):
        assert "'hornet':" in text
        assert "wasp" not in text
    again = await store(database, ["One.", "Three."], title="Beetles")
    assert not again.changed
    assert all("'beetl':" in text for text in await lexemes(database, first.document_id))


async def test_another_language_stems_the_kept_chunks_anew(database: Database) -> None:
    documents = DocumentRepository(database)
    texts = ["Die Bienen fliegen."]
    stored = await documents.store(a_document("1"), passages(*texts, language="english"))
    before = await rows(database, stored.document_id)
    assert "'fliegen':" in (await lexemes(database, stored.document_id))[0]
    again = await documents.store(a_document("1", pipeline_version="2"), passages(*texts, language="german"))
    assert (again.added, again.removed) == (0, 0)
    assert set(await rows(database, stored.document_id)) == set(before)
    [chunk] = await documents.chunks(stored.document_id)
    assert chunk.language == "german"
    assert "'flieg':" in (await lexemes(database, stored.document_id))[0]


async def test_a_document_may_lose_all_its_chunks(database: Database) -> None:
    documents = DocumentRepository(database)
    stored = await store(database, ["One.", "Two."])
    emptied = await documents.store(a_document("", title=None), [])
    assert (emptied.added, emptied.removed, emptied.kept) == (0, 2, 0)
    assert await documents.chunks(stored.document_id) == []


async def test_headings_keep_their_path_whatever_is_in_them(database: Database) -> None:
    documents = DocumentRepository(database)
    paths = [(), ("A",), ("A", "B, C"), ('"q"', "{x}", "\\"), ("a\x1fb",), ("", "x")]
    stored = await documents.store(a_document(), identify((path, "Text.") for path in paths))
    found = [chunk.heading_path for chunk in await documents.chunks(stored.document_id)]
    assert found == [[], ["A"], ["A", "B, C"], ['"q"', "{x}", "\\"], ["a b"], ["", "x"]]


@given(st.lists(st.tuples(st.lists(st.text(max_size=4), max_size=3), st.text(max_size=8)), max_size=20))
def test_identities_within_a_document_are_unique_and_in_order(
    pieces: list[tuple[list[str], str]],
) -> None:
    chunks = identify(pieces)
    assert [chunk.text for chunk in chunks] == [text for _, text in pieces]
    assert [chunk.ordinal for chunk in chunks] == list(range(len(pieces)))
    assert len({(chunk.content_hash, chunk.occurrence) for chunk in chunks}) == len(chunks)
    assert identify(pieces) == chunks


_no_nul = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)


@given(st.lists(_no_nul, max_size=3), _no_nul, st.lists(_no_nul, max_size=3), _no_nul)
def test_equal_hashes_mean_equal_headings_and_text(
    first: list[str], one: str, second: list[str], two: str
) -> None:
    assert (content_hash(first, one) == content_hash(second, two)) == ((first, one) == (second, two))


_texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=9)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_texts, min_size=2, max_size=4))
async def test_any_history_of_edits_ends_with_the_last_texts(
    database: Database, history: list[list[str]]
) -> None:
    documents = DocumentRepository(database)
    for texts in history:
        stored = await store(database, texts)
        found = await documents.chunks(stored.document_id)
        assert [chunk.text for chunk in found] == texts
        assert [chunk.ordinal for chunk in found] == list(range(len(texts)))
