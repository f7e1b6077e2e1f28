"""When the provider itself is taken to be out of order."""

from __future__ import annotations

from docyard_workers.embed.breaker import Breaker


def test_one_text_that_fails_again_and_again_does_not_open_it() -> None:
    breaker = Breaker()
    root = object()
    for _ in range(10):
        breaker.failed(root)
    assert not breaker.is_open


def test_different_requests_that_fail_one_after_the_other_open_it() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.failed(object())
    assert not breaker.is_open
    breaker.failed(object())
    assert breaker.is_open


def test_a_success_between_them_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(6):
        breaker.failed(object())
        breaker.failed(object())
        breaker.succeeded()
    assert not breaker.is_open


def test_after_the_pause_one_failure_opens_it_again_and_for_longer() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(object())
    first = breaker.open()
    assert not breaker.is_open
    breaker.failed(object())
    assert breaker.is_open
    assert breaker.open() == 2 * first
    assert [breaker.open() for _ in range(10)][-1] == 60
    breaker.succeeded()
    breaker.failed(object())
    assert not breaker.is_open
