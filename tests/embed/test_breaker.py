"""When the provider itself is taken to be out of order."""

from __future__ import annotations

import time

from docyard_workers.embed.breaker import Breaker


def test_one_text_that_fails_again_and_again_does_not_open_it() -> None:
    breaker = Breaker()
    root = object()
    for _ in range(10):
        breaker.failed(root, time.monotonic())
    assert not breaker.is_open


def test_different_requests_that_fail_one_after_the_other_open_it() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.failed(object(), time.monotonic())
    assert not breaker.is_open
    breaker.failed(object(), time.monotonic())
    assert breaker.is_open


def test_a_success_between_them_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(6):
        breaker.failed(object(), time.monotonic())
        breaker.failed(object(), time.monotonic())
        breaker.succeeded()
    assert not breaker.is_open


def test_after_the_pause_one_failure_opens_it_again_and_for_longer() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(object(), time.monotonic())
    before = time.monotonic()
    first = breaker.open()
    breaker.failed(object(), before)
    assert not breaker.is_open, "it was on its way already"
    breaker.failed(object(), time.monotonic())
    assert breaker.is_open
    assert breaker.open() == 2 * first
    assert [breaker.open() for _ in range(10)][-1] == 60
    breaker.succeeded()
    breaker.failed(object(), time.monotonic())
    assert not breaker.is_open
