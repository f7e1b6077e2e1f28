"""How a benchmark tells what it found: a table with ratios for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path(__file__).parent / "results"

# Measure → system → value.
Measures = dict[str, dict[str, float]]


def write_results(path: Path, environment: Mapping[str, Any], measures: Measures) -> None:
    """``{"environment": …, "measures": {"drain_1": {"docyard": …, …}, …}}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment, "measures": measures}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n")


def comparison(measures: Measures, *, ours: str = "docyard", less_is_better: Sequence[str] = ()) -> str:
    """A row a system, a column a measure; beside each value how many times better ours is."""
    systems = list(dict.fromkeys(name for values in measures.values() for name in values))
    rows = [["", *measures]]
    for system in systems:
        row = [system]
        for measure, values in measures.items():
            value, best = values.get(system), values.get(ours)
            cell = "–" if value is None else number(value)
            if value and best and system != ours:
                times = value / best if measure in less_is_better else best / value
                cell += f" {times:.2f}×"
            row.append(cell)
        rows.append(row)
    return _aligned(rows)


def against(measures: Measures, base: float, *, ours: str = "docyard") -> str:
    """A row a measure of ours, and what it is of ``base``."""
    rows = [[name, number(values[ours]), f"{values[ours] / base:.0%}"] for name, values in measures.items()]
    return _aligned(rows)


def number(value: float) -> str:
    """Three digits, more or less: 31.8k, 412, 0.41."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
