"""Filters, tombstones and expiry, in each branch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

# Each finds by its own branch alone: all words, any word (one is nowhere), the vector.
BRANCHES = [("text", "apple"), ("text", "apple zanzibar"), ("vector", "fruit"), ("hybrid", "apple")]


async def find(search, library, mode: str, query: str, **filters) -> list:
    hits = await search.search(query, mode=mode, vector=(1, 0), model=library.model, **filters)
    return [hit.document_id for hit in hits]


@pytest.mark.parametrize(("mode", "query"), BRANCHES)
async def test_collection_and_kind_hold_in_every_branch(library, search, mode: str, query: str) -> None:
    here = await library.add("apple", collection="here", kind="file", vectors=[(1, 0)])
    there = await library.add("apple", collection="there", kind="file", vectors=[(1, 0)])
    note = await library.add("apple", collection="here", kind="note", vectors=[(1, 0)])
    assert set(await find(search, library, mode, query)) == {here, there, note}
    assert set(await find(search, library, mode, query, collection="here")) == {here, note}
    assert set(await find(search, library, mode, query, kind="file")) == {here, there}
    assert await find(search, library, mode, query, collection="here", kind="note") == [note]
    assert await find(search, library, mode, query, collection="nowhere") == []


@pytest.mark.parametrize(("mode", "query"), BRANCHES)
async def test_removed_and_expired_documents_never_appear(library, search, mode: str, query: str) -> None:
    now = datetime.now(UTC)
    stays = await library.add("apple", vectors=[(1, 0)], expires_at=now + timedelta(hours=1))
    await library.add("apple", vectors=[(1, 0)], expires_at=now - timedelta(seconds=1))
    removed = await library.add("apple", vectors=[(1, 0)])
    await library.documents.remove(removed)
    assert await find(search, library, mode, query) == [stays]
    await library.documents.restore(removed)
    assert set(await find(search, library, mode, query)) == {stays, removed}


@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
async def test_exclusions_and_phrases_hold_in_every_branch(library, search, mode: str) -> None:
    plain = await library.add("a red apple pie", vectors=[(1, 0)])
    turned = await library.add("a pie of apple", vectors=[(1, 0)])
    worm = await library.add("a red apple pie with a worm", vectors=[(1, 0)])
    assert set(await find(search, library, mode, "apple pie")) == {plain, turned, worm}
    assert set(await find(search, library, mode, "apple pie -worms")) == {plain, turned}
    assert set(await find(search, library, mode, '"apple pie"')) == {plain, worm}
    assert set(await find(search, library, mode, 'pie "red apple" -worm')) == {plain}
    assert set(await find(search, library, mode, 'apple -"red apple"')) == {turned}


async def test_a_title_word_excludes_the_whole_document(library, search) -> None:
    kept = await library.add("apple", title="Pie")
    await library.add([((), "apple one"), ((), "apple two")], title="Worms")
    assert await find(search, library, "text", "apple -worm") == [kept]
