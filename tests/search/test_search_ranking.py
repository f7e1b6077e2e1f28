"""What comes first, and what a hit says."""

from __future__ import annotations

import pytest


async def test_a_word_in_the_title_outranks_the_same_word_in_the_text(library, search) -> None:
    text = "Notes on keeping a database quick, whatever its size may be."
    in_text = await library.add(f"{text} Vacuum is one way.", title="Maintenance")
    in_title = await library.add(f"{text} Analyze is one way.", title="Vacuum")
    hits = await search.search("vacuum", mode="text")
    assert [hit.document_id for hit in hits] == [in_title, in_text]


async def test_a_rare_word_outweighs_a_common_one(library, search) -> None:
    for number in range(20):
        await library.add(f"The table number {number} of the common kind.")
    rare = await library.add("A zygote, and nothing more of the kind at all.")
    hits = await search.search("table zygote", mode="text")
    assert hits[0].document_id == rare


async def test_any_of_the_words_finds_where_no_document_has_all(library, search) -> None:
    found = await library.add("Locks are taken in the order of their names.")
    await library.add("Nothing of interest.")
    hits = await search.search("order of locks in zanzibar", mode="text")
    assert [hit.document_id for hit in hits] == [found]


async def test_words_close_together_outrank_the_same_words_apart(library, search) -> None:
    filler = "and some other things that are said in between "
    apart = await library.add(f"index {filler} bloat")
    together = await library.add(f"{filler} index bloat")
    hits = await search.search("index bloat", mode="text")
    assert [hit.document_id for hit in hits] == [together, apart]


async def test_a_document_comes_once_with_its_best_passage(library, search) -> None:
    pieces = [
        (("Guide", "Start"), "How to begin with an apple in a long sentence about many other things."),
        (("Guide", "Fruit"), "Apple pie: apple, apple and apple."),
        (("Guide", "End"), "No fruit is mentioned."),
    ]
    document = await library.add(pieces, title="Cooking")
    (hit,) = await search.search("apple", mode="text")
    assert hit.document_id == document
    assert hit.heading_path == ("Guide", "Fruit")
    assert hit.snippet == "Apple pie: apple, apple and apple."
    assert [hit.snippet[start:end] for start, end in hit.highlights] == ["Apple", "apple", "apple", "apple"]


async def test_documents_that_words_and_vectors_both_find_come_first(library, search) -> None:
    words_only = await library.add("The cat sat on a mat.", vectors=[(0, 0, 1)])
    both = await library.add("The cat lay.", vectors=[(1, 0.1, 0)])
    vectors_only = await library.add("A feline rested.", vectors=[(1, 0, 0)])
    hits = await search.search("cat", vector=(1, 0, 0), model=library.model)
    assert hits[0].document_id == both
    assert {hit.document_id for hit in hits} == {words_only, both, vectors_only}
    assert hits.degraded is None


async def test_scores_are_sums_of_reciprocal_ranks(library, search) -> None:
    await library.add("The cat sat.", vectors=[(0, 1)])
    await library.add("A feline rested.", vectors=[(1, 0)])
    feline, cat = sorted(
        await search.search("cat", vector=(1, 0), model=library.model), key=lambda hit: hit.score
    )
    # The strict branch and BM25 have the cat first; vectors have it second.
    assert cat.text_score == pytest.approx(2 / 61)
    assert cat.vector_score == pytest.approx(1 / 62)
    assert cat.score == pytest.approx(2 / 61 + 1 / 62)
    assert cat.similarity == pytest.approx(0, abs=1e-3)
    assert (feline.text_score, feline.bm25) == (None, None)
    assert feline.score == feline.vector_score == pytest.approx(1 / 61)
    assert feline.similarity == pytest.approx(1, abs=1e-3)


async def test_pages_do_not_overlap_and_miss_nothing(library, search) -> None:
    stored = {
        await library.add(f"Page {number % 7} of the book.", vectors=[(1, number)]) for number in range(45)
    }
    question = {"vector": (1, 3), "model": library.model}
    pages = [
        await search.search("page book", limit=10, offset=start, **question) for start in range(0, 50, 10)
    ]
    seen = [hit.document_id for page in pages for hit in page]
    assert len(seen) == len(set(seen))
    assert set(seen) == stored
    whole = await search.search("page book", limit=45, **question)
    assert [hit.document_id for hit in whole] == seen


async def test_equal_documents_keep_their_order(library, search) -> None:
    for _ in range(10):
        await library.add("All the same.", title="Same")
    first = await search.search("same", mode="text")
    assert list(first) == list(await search.search("same", mode="text"))
    assert [hit.document_id for hit in first] == sorted(hit.document_id for hit in first)


async def test_words_are_found_in_another_form(library, search) -> None:
    found = await library.add("Running backups nightly.")
    for query in ("run", "runs", "backup", "BACKUPS", "nightly running"):
        assert [hit.document_id for hit in await search.search(query, mode="text")] == [found], query


async def test_german_words_are_found_by_their_stem(library, search) -> None:
    found = await library.add("Die Häuser der Stadt sind größer als früher.", language="german")
    hits = await search.search("haus städte", mode="text", language="german")
    assert [hit.document_id for hit in hits] == [found]
    assert [hits[0].snippet[start:end] for start, end in hits[0].highlights] == ["Häuser", "Stadt"]


async def test_words_of_any_script_are_found(library, search) -> None:
    found = await library.add("Un café, la naïveté, 日本語 und Ελλάδα, an emoji 🙂 too.")
    for query in ("café", "cafe\u0301", "naïveté", "日本語", "Ελλάδα", "emoji 🙂"):
        assert [hit.document_id for hit in await search.search(query, mode="text")] == [found], query
