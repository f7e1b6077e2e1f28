"""How texts that wait are cut into requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from docyard_workers.embed.packing import Entry, Group, Packer, payers
from docyard_workers.embed.providers import ProviderLimits

LIMITS = ProviderLimits(max_texts_per_request=4, max_tokens_per_request=100)


def entry(tokens: int, collection: str = "a") -> Entry:
    return Entry(bytes(32), tokens, collection)


def packer(*tokens: int) -> Packer:
    made = Packer(LIMITS)
    for count in tokens:
        made.add(entry(count))
    return made


def cut(line: Packer) -> list[int]:
    return [one.tokens for one in line.cut()]


def test_a_request_is_cut_by_texts_and_by_tokens() -> None:
    line = packer(10, 10, 10, 10, 60, 30, 20)
    assert cut(line) == [10, 10, 10, 10]
    assert cut(line) == [60, 30]
    assert cut(line) == [20]
    assert cut(line) == []


def test_it_is_full_when_another_text_would_not_fit() -> None:
    assert not packer(50, 50).is_full
    assert packer(50, 51).is_full
    assert packer(1, 1, 1, 1).is_full


def test_a_text_larger_than_a_request_travels_alone() -> None:
    line = packer(500, 10)
    assert cut(line) == [500], "the provider's own limit on texts says what becomes of it"


def test_what_is_put_back_goes_first_and_counts_again() -> None:
    line = packer(10, 20, 30, 40, 50)
    taken = line.cut()
    line.put_back(taken)
    assert [one.tokens for one in line.cut()] == [10, 20, 30, 40]
    assert cut(line) == [50]


def test_a_provider_that_counts_more_tokens_gets_fewer_texts() -> None:
    line = packer(30, 30, 30)
    line.scale = 1.5
    assert line.is_full
    assert cut(line) == [30, 30]


def test_halves_remember_where_they_came_from() -> None:
    group = Group([entry(1), entry(2), entry(3)], failed_at=5.0)
    first, second = group.halves()
    assert ([one.tokens for one in first.entries], [one.tokens for one in second.entries]) == ([1], [2, 3])
    assert first.root is second.root is group.root
    assert not first.is_whole


def test_each_collection_pays_for_its_own_tokens() -> None:
    assert payers([entry(10, "a"), entry(30, "b"), entry(5, "a")]) == {"a": 15, "b": 30}


@given(st.lists(st.integers(1, 100), max_size=60))
def test_nothing_is_lost_and_no_request_is_too_large(tokens: list[int]) -> None:
    line, requests = packer(*tokens), []
    while line:
        requests.append(cut(line))
    assert [count for request in requests for count in request] == tokens
    assert all(len(request) <= 4 and sum(request) <= 100 for request in requests)
