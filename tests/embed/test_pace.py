"""How fast requests leave after a provider wanted patience."""

from __future__ import annotations

import math

from docyard_workers.embed.pace import Pace


def test_it_begins_with_as_many_as_may_travel() -> None:
    pace = Pace(4)
    assert pace.wait <= 0
    assert [pace.has_room(count) for count in range(5)] == [True, True, True, True, False]


def test_after_a_pause_it_grows_by_one_for_each_answer() -> None:
    pace = Pace(3)
    pace.pause(0, "cooling")
    rooms = []
    for _ in range(4):
        rooms.append(sum(pace.has_room(count) for count in range(5)))
        pace.went_well()
    assert rooms == [1, 2, 3, 3]


def test_the_longer_of_two_pauses_holds_and_the_reason_is_the_last_one() -> None:
    pace = Pace(3)
    pace.pause(10, "long")
    pace.pause(1, "short")
    assert 9 < pace.wait <= 10
    assert pace.reason == "short"


def test_each_pause_sends_requests_farther_apart_and_answers_bring_them_together() -> None:
    pace = Pace(3)
    waits = []
    for _ in range(6):
        pace.pause(0, "cooling")
        pace.sent()
        waits.append(round(pace.wait, 2))
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    for _ in range(60):
        pace.went_well()
    pace.sent()
    assert pace.wait <= 0


def test_one_volley_of_refusals_counts_once() -> None:
    pace = Pace(3)
    for _ in range(3):
        pace.pause(0.2, "cooling")
    pace.sent()
    assert pace.wait <= 0.2


def test_while_it_is_held_nothing_leaves() -> None:
    pace = Pace(3)
    with pace.held(), pace.held():
        assert pace.wait == math.inf
    assert pace.wait <= 0
    assert not pace.has_room(1), "and then one first"


def test_what_failed_is_no_question_to_ask_while_it_is_careful() -> None:
    pace = Pace(2)
    assert not pace.is_careful
    pace.pause(0, "down")
    assert pace.is_careful
    pace.went_well()
    pace.sent()
    assert not pace.is_careful
