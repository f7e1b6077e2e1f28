"""Waits grow, stay under their cap, and are spread."""

from __future__ import annotations

import statistics
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docyard_queue import Backoff
from docyard_schema.errors import ConfigError

spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta.max)
tries = st.integers(min_value=-3, max_value=10**9)


@given(base=spans, cap=spans, attempt=tries, jitter=st.booleans())
def test_a_wait_is_never_below_zero_nor_above_the_cap(base, cap, attempt, jitter):
    assert timedelta(0) <= Backoff(base=base, cap=cap, jitter=jitter).delay(attempt) <= cap


@given(base=spans, cap=spans, attempt=tries)
def test_the_ceiling_never_sinks(base, cap, attempt):
    backoff = Backoff(base=base, cap=cap)
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1)


@given(base=spans, cap=spans, attempt=tries)
def test_full_jitter_stays_under_the_ceiling(base, cap, attempt):
    backoff = Backoff(base=base, cap=cap)
    assert backoff.delay(attempt) <= backoff.ceiling(attempt)


@given(cap=spans, attempt=tries, jitter=st.booleans())
def test_a_base_of_zero_retries_at_once(cap, attempt, jitter):
    assert Backoff(base=timedelta(0), cap=cap, jitter=jitter).delay(attempt) == timedelta(0)


def test_without_jitter_it_doubles_from_the_base_to_the_cap():
    backoff = Backoff(base=timedelta(seconds=2), cap=timedelta(seconds=10), jitter=False)
    assert [backoff.delay(n).total_seconds() for n in range(1, 6)] == [2, 4, 8, 10, 10]


def test_full_jitter_uses_the_whole_span():
    backoff = Backoff(base=timedelta(seconds=100), cap=timedelta(seconds=100))
    waits = [backoff.delay(1).total_seconds() for _ in range(2000)]
    assert min(waits) < 10
    assert max(waits) > 90
    assert 45 < statistics.mean(waits) < 55


@pytest.mark.parametrize("field", ["base", "cap"])
def test_a_wait_below_zero_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        Backoff(**{field: timedelta(seconds=-1)})
