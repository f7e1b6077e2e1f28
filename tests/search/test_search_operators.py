"""The syntax of queries against the database."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUERIES = {
    "apple or pear": {"apple", "pear"},
    "APPLE OR PEAR": {"apple", "pear"},
    '"apple tart" or "plum cake"': {"apple", "plum"},
    '"apple tart" or plum': {"apple", "plum"},
    "tart -apple": {"pear"},
    "apple or pear -tart": set(),
    "tart - apple": {"apple", "pear"},
    "--verbose": {"plum"},
    '"tart': {"apple", "pear"},
    '"cake with"': {"plum"},
    "or": set(),
    "or apple or": {"apple"},
    "(apple & !tart) | <-> :* \\ '": {"apple", "pear"},
    "-apple": set(),
    "the": set(),
    "the -apple": set(),
    "tart -the": {"apple", "pear"},
    "ap\x00ple pear\ud800": {"pear"},
    "a" * 9000: set(),
}


@pytest.fixture
async def fruit(library) -> None:
    await library.add("apple tart", title="apple")
    await library.add("pear tart", title="pear")
    await library.add("plum cake -- with the option --verbose", title="plum")


@pytest.mark.usefixtures("fruit")
async def test_queries_mean_what_a_search_engine_makes_of_them(search) -> None:
    found = {query: {hit.title for hit in await search.search(query, mode="text")} for query in QUERIES}
    assert found == QUERIES


@pytest.mark.usefixtures("fruit")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=60) | st.text(alphabet="ab -\"or'\\:*&|!()<>\x00\ud800%", max_size=40))
async def test_no_query_fails(search, query: str) -> None:
    assert (await search.search(query, mode="text")).degraded is None
