"""The tests that docs/testing.md shows pass."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from docs.pages import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

    from docyard_schema.embedded import EmbeddedServer

PAGE = ROOT / "docs" / "testing.md"


def test_the_tests_on_the_page_pass(tmp_path: Path, server: EmbeddedServer, template: str) -> None:
    for snippet in blocks(PAGE, "python"):
        named = re.match(r"# (\w+\.py)\n", snippet)
        assert named, snippet
        with (tmp_path / named[1]).open("a") as file:
            file.write(snippet)
    with (tmp_path / "conftest.py").open("a") as file:
        # The run's own server, so that no other has to start.
        file.write(
            "import pytest\n@pytest.fixture(scope='session')\ndef docyard_server():\n"
            f"    return {server.conninfo_for('postgres')!r}\n"
        )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto",
         f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/run", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = sum(
        snippet.count("\ndef test_") + snippet.count("\nasync def test_")
        for snippet in blocks(PAGE, "python")
    )
    assert f"{shown + 4} passed" in done.stdout, "each of them ran, one with five parameters"


def test_every_name_of_the_kit_is_on_the_page() -> None:
    import docyard.testing

    text = PAGE.read_text()
    unnamed = {"Clock", "Crash", "Drained", "EnqueuedJob", "Performed"}
    assert [name for name in docyard.testing.__all__ if name not in unnamed and name not in text] == []
