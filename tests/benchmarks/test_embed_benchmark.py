"""The embedding benchmark runs, and writes what DESIGN promises. How fast anything is, no test says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.embed.__main__ import BASELINE, LATENCIES, main
from benchmarks.embed.folder import write_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_every_measure_has_a_value(tmp_path: Path) -> None:
    output = tmp_path / "embed.json"
    small = ["--documents=20", "--bytes=60000", "--rounds=1", "--memory-chunks=0"]
    assert main([f"--output={output}", *small]) == 0
    measures = json.loads(output.read_text())["measures"]
    compared = {
        f"{name}_{latency}"
        for name in ("chunks_per_s", "requests_per_minimum", "texts_sent_twice")
        for latency in LATENCIES
    }
    alone = {
        "seconds_per_ideal_50ms",
        "seconds_per_ideal_500ms",
        "seconds_per_ideal_small_500ms",
        "chunks_per_s_whole_50ms",
        "requests_per_minimum_whole_50ms",
        "texts_sent_twice_whole_50ms",
        "requests_second_run",
        "texts_needless_after_change",
    }
    assert set(measures) == compared | alone
    assert all(set(measures[name]) == {"docyard", BASELINE} for name in compared)
    assert all(set(measures[name]) == {"docyard"} for name in alone)
    assert measures["requests_per_minimum_50ms"][BASELINE] == 20
    for name in ("requests_second_run", "texts_needless_after_change", "texts_sent_twice_whole_50ms"):
        assert measures[name]["docyard"] == 0


def test_a_folder_has_as_many_documents_as_asked_for_and_is_the_same_each_time(tmp_path: Path) -> None:
    first = [path.read_text() for path in write_folder(tmp_path / "one", 40, largest=50_000)]
    second = [path.read_text() for path in write_folder(tmp_path / "two", 40, largest=50_000)]
    assert len(first) == 40
    assert all(first)
    assert first == second


def test_copies_of_a_folder_are_told_apart_by_a_number(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "texts", 40, largest=20_000, copies=2)
    numbers = [path.read_text().split(" ")[0] for path in paths]
    assert numbers == sorted(numbers)
    assert set(numbers) == {"0", "1"}
