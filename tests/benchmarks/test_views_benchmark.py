"""The views' benchmark runs, and asks every view. How fast anything is, no test says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.views.__main__ import main
from benchmarks.views.queries import QUERIES

PAGE = Path(__file__).parents[2] / "docs" / "views.md"


def test_every_query_has_a_time(tmp_path: Path) -> None:
    output = tmp_path / "views.json"
    assert main([f"--output={output}", "--finished=2000", "--waiting=200", "--running=20"]) == 0
    assert set(json.loads(output.read_text())["measures"]) == {*QUERIES, "first count, s"}


def test_every_view_of_jobs_is_asked() -> None:
    views = set(re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE))
    asked = set(re.findall(r"docyard\.(\w+)", " ".join(QUERIES.values())))
    # How much has a vector, and what it cost, is about documents.
    assert asked == views - {"embedding_coverage", "spend"}
