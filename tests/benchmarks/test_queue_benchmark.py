"""The queue's benchmark runs, and writes what DESIGN promises. How fast anything is, no test says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.queue.__main__ import main
from benchmarks.queue.systems import chosen_systems
from benchmarks.results import against, comparison

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("uvloop")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("results") / "queue.json"
    small = ["--jobs=200", "--rounds=1", "--waiting=400", "--finished=400", "--concurrency=50"]
    assert main(["--only=docyard", f"--output={output}", *small]) == 0
    found = json.loads(output.read_text())
    assert isinstance(found, dict)
    return found


def test_every_measure_has_a_value_of_docyard(results: dict[str, Any]) -> None:
    assert set(results["measures"]) == {
        "enqueue_single",
        "enqueue_transaction",
        "enqueue_bulk",
        "drain_1",
        "drain_2",
        "latency_p50_ms",
        "latency_p99_ms",
        "drain_concurrency_10",
        "drain_lock_keys",
        "drain_one_lock_key",
        "drain_partitions",
        "drain_limited",
        "drain_beside_future",
        "drain_beside_paused",
        "drain_held_transaction",
        "drain_backlog",
        "end_to_end",
    }
    for values in results["measures"].values():
        assert list(values) == ["docyard"]
        assert isinstance(values["docyard"], float)


def test_the_environment_says_what_was_measured_on(results: dict[str, Any]) -> None:
    environment = results["environment"]
    assert environment["postgres"]["fsync"] == "on"
    assert environment["postgres"]["version"].startswith("18")
    assert environment["systems"] == {"docyard": f"{environment['docyard']}: concurrency 50"}


def test_a_comparison_says_how_many_times_better_ours_is() -> None:
    measures = {"drain": {"docyard": 30_000.0, "other": 10_000.0}, "wait": {"docyard": 0.5, "other": 2.0}}
    lines = comparison(measures, less_is_better=["wait"]).splitlines()
    assert [line.split() for line in lines] == [
        ["drain", "wait"],
        ["docyard", "30.0k", "0.50"],
        ["other", "10.0k", "3.00×", "2.00", "4.00×"],
    ]


def test_a_measure_of_ours_alone_is_a_part_of_its_base() -> None:
    assert against({"held": {"docyard": 15_000.0}}, 30_000.0).split() == ["held", "15.0k", "50%"]


def test_each_package_has_a_system_of_its_own_name() -> None:
    systems = chosen_systems(None, concurrency=None)
    assert {system.package for system in systems} <= {system.name for system in systems}


def test_an_unknown_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="celery"):
        main(["--only=celery", f"--output={tmp_path / 'queue.json'}"])
