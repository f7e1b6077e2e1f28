"""BM25 in SQL against the formula written out in Python, on the same lexemes."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import pytest

WORDS = ["apple", "banana", "cherry", "date", "elder", "fig", "grape", "hazel", "o'hara", "back\\slash"]


async def bm25(database, query: str) -> dict:
    """Each document's best chunk by the Okapi formula, k1 = 1.2, b = 0.75, titles counted three times."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT chunk.document_id, chunk.id, entry.lexeme, entry.weights "
            "FROM docyard.chunks AS chunk CROSS JOIN unnest(chunk.lexemes) AS entry"
        )
        rows = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT lexeme, cardinality(positions) FROM unnest(to_tsvector('english', %s))", [query]
        )
        asked = dict(await cursor.fetchall())
    frequencies: dict[int, Counter] = defaultdict(Counter)
    document_of = {}
    for document, chunk, lexeme, weights in rows:
        document_of[chunk] = document
        frequencies[chunk][lexeme] = sum(3 if weight == "A" else 1 for weight in weights)
    lengths = {chunk: sum(counts.values()) for chunk, counts in frequencies.items()}
    mean = sum(lengths.values()) / len(lengths)
    scores: dict = {}
    for chunk, counts in frequencies.items():
        score = 0.0
        for lexeme, times in asked.items():
            containing = sum(1 for other in frequencies.values() if lexeme in other)
            rarity = math.log(1 + (len(frequencies) - containing + 0.5) / (containing + 0.5))
            tf = counts[lexeme]
            score += times * rarity * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * lengths[chunk] / mean))
        if score:
            document = document_of[chunk]
            scores[document] = max(score, scores.get(document, 0))
    return scores


async def test_bm25_equals_the_formula(library, search, database) -> None:
    chance = random.Random(5)

    def words(most: int) -> str:
        return " ".join(chance.choices(WORDS, weights=range(1, len(WORDS) + 1), k=chance.randint(1, most)))

    for _ in range(40):
        pieces = [((words(2),), words(30)) for _ in range(chance.randint(1, 4))]
        await library.add(pieces, title=chance.choice([None, words(4)]))
    for _ in range(25):
        query = words(6)
        expected = await bm25(database, query)
        hits = await search.search(query, mode="text", limit=100)
        found = {hit.document_id: hit.bm25 for hit in hits}
        assert found == pytest.approx(expected), query


async def test_a_word_asked_for_twice_counts_twice(library, search, database) -> None:
    await library.add("apple banana")
    await library.add("cherry")
    (once,) = await search.search("apple", mode="text")
    (twice,) = await search.search("apple apple", mode="text")
    assert twice.bm25 == pytest.approx(2 * once.bm25)


async def test_scores_do_not_depend_on_the_filter(library, search) -> None:
    await library.add("apple pie", collection="one")
    await library.add("apple cake and more", collection="two")
    whole = {hit.document_id: hit.bm25 for hit in await search.search("apple", mode="text")}
    (hit,) = await search.search("apple", mode="text", collection="two")
    assert hit.bm25 == whole[hit.document_id]
