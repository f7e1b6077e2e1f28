"""The simulation behind ``docs/design/coalescing.md`` runs, and its page says what it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.embed.simulation import Scenario, Simulation, a_folder, minimum_requests
from benchmarks.embed.tables import tables

PAGE = Path(__file__).parents[2] / "docs" / "design" / "coalescing.md"
FOLDER = a_folder(150)


@pytest.mark.parametrize("rule", ["claim", "stream", "queue"])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("rate", [None, 100.0, 2_000.0])
def test_every_text_arrives_by_any_rule(rule: str, processes: int, rate: float | None) -> None:
    scenario = Scenario(rule=rule, processes=processes, rate=rate)  # type: ignore[arg-type]
    outcome = Simulation(scenario, FOLDER).run()
    assert outcome.requests >= outcome.minimum
    assert all(wait > 0 for wait in outcome.waits)


def test_a_stream_of_what_is_there_already_needs_no_more_than_the_limits_do() -> None:
    outcome = Simulation(Scenario(rate=None), a_folder(2_000)).run()
    assert outcome.requests == outcome.minimum == 36


def test_a_process_never_holds_more_than_it_may() -> None:
    outcome = Simulation(Scenario(rate=None, in_hand=4_096), a_folder(500)).run()
    assert outcome.most_held <= 4_096


def test_a_lone_upload_waits_only_where_nobody_notices_that_it_is_alone() -> None:
    alone = [(200,) * 10]
    assert Simulation(Scenario(), alone).run().wait(1) < 0.1
    assert Simulation(Scenario(notices_the_end=False), alone).run().wait(1) > 5


def test_the_minimum_is_what_the_tighter_limit_says() -> None:
    assert minimum_requests(2_048, 300_000) == 1
    assert minimum_requests(2_049, 10) == 2
    assert minimum_requests(10, 900_001) == 4


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_simulation() -> None:
    page = PAGE.read_text()
    for table in tables(a_folder(2_000)):
        for line in table.splitlines()[4:]:
            _, *cells = line.strip("| ").split(" | ")
            assert " | ".join(cells) in page, f"the page lacks {line}"
