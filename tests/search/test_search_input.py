"""What is refused, and what costs nothing."""

from __future__ import annotations

import pytest

from docyard_schema import DatabaseUnavailable, InvalidInput

EMPTY = ["", "   ", "\n\t", '""', "-", "\x00", "or", "-apple", "!&|"]

WRONG = [
    {"limit": 0},
    {"limit": 1001},
    {"limit": -1},
    {"offset": -1},
    {"offset": 10_001},
    {"mode": "fuzzy"},
    {"language": "klingon"},
    {"language": "3748"},
    {"language": "english; --"},
    {"language": "no_schema.english"},
    {"collection": "a\x00"},
    {"kind": "\ud800"},
]


async def test_a_query_without_words_asks_nothing_of_the_database(search, database) -> None:
    await database.close()
    for query in EMPTY:
        assert len(await search.search(query)) == 0
    with pytest.raises(DatabaseUnavailable):
        await search.search("apple")


async def test_what_cannot_be_searched_for_is_refused(search) -> None:
    for wrong in WRONG:
        with pytest.raises(InvalidInput) as caught:
            await search.search("apple", **{"mode": "text"} | wrong)
        assert caught.value.operation == "search", wrong


async def test_a_query_of_a_whole_book_is_refused(search) -> None:
    with pytest.raises(InvalidInput, match="10,000 characters"):
        await search.search("word " * 3000)


async def test_a_refusal_leaves_the_callers_transaction_usable(search, database) -> None:
    async with database.transaction() as connection:
        with pytest.raises(InvalidInput):
            await search.search("apple", mode="text", language="klingon", connection=connection)
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_a_result_is_a_sequence_of_hits(library, search) -> None:
    await library.add("apple", title="Fruit", uri="file:///apple.txt")
    result = await search.search("apple", mode="text", limit=1000)
    assert len(result) == 1
    assert result[0] in result
    assert [hit.source_uri for hit in result] == ["file:///apple.txt"]
    assert result[:1] == tuple(result)
    assert (result[0].title, result[0].kind, result[0].collection) == ("Fruit", "file", "main")
