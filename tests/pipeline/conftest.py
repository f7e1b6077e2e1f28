"""Folders of real texts."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

_PROSE = {".md", ".rst", ".txt"}
_LARGEST_BYTES = 40_000


@pytest.fixture(scope="session")
def real_texts() -> list[Path]:
    """What the installed packages say of themselves: one text of each, and some of their notes."""
    found: list[Path] = []
    for package in sorted(importlib.metadata.distributions(), key=lambda package: package.name):
        paths = [Path(str(package.locate_file(file))) for file in package.files or []]
        prose = [path for path in paths if path.name == "METADATA" or path.suffix in _PROSE]
        dull = ("entry_points", "top_level", "LICENSE", "license", "AUTHORS")
        prose = [path for path in prose if path.is_file() and not path.name.startswith(dull)]
        found += [path for path in prose if 0 < path.stat().st_size <= _LARGEST_BYTES][:4]
    assert len(found) >= 60, "docyard is tested where its development packages are installed"
    return found[:100]


@pytest.fixture
def folder(tmp_path: Path, real_texts: list[Path]) -> Path:
    """A folder of about 100 real texts, to be changed at will."""
    made = tmp_path / "texts"
    for path in real_texts:
        beside = made / path.parent.name / path.name
        if beside.exists():
            continue
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, beside)
    return made


@pytest.fixture
def small_folder(folder: Path) -> Path:
    """A dozen of them, for tests that do not depend on their number."""
    kept = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in kept[12:]:
        path.unlink()
    return folder
