"""Texts that are real on every machine: documentation that installed packages carry, and docyard's own."""

from __future__ import annotations

import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROSE = {".md", ".rst", ".txt", ".html", ".htm"}
_METADATA = {"METADATA", "README", "CHANGELOG", "CHANGES"}
# Said a hundred times over, or no prose at all.
_DULL_NAMES = re.compile(
    r"licen[cs]e|copying|notice|authors|record|top_level|entry_points|sources|requires|dependency_links"
    r"|api_changes|vendor\.txt|tlds-|leap-seconds|zonesets",
    re.IGNORECASE,
)
_DULL_FOLDERS = {
    "tests",
    "test",
    "testing",
    "_vendor",
    "vendor",
    "vendored",
    "__pycache__",
    "pginstall",
    "licenses",
}
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)

# A module is documentation when so many characters and such a share of it are docstrings.
_LEAST_CHARACTERS = 1500
_LEAST_SHARE = 0.35
# One package of a thousand alike modules shall not be the corpus.
_MODULES_PER_PACKAGE = 60
_LARGEST_BYTES = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The files, how many packages they are from, and their bytes."""

    files: tuple[Path, ...]
    packages: int
    size: int


def find_corpus() -> Corpus:
    """What is installed where this Python looks for packages, and docyard's own ``docs/``."""
    site = Path(sysconfig.get_path("purelib"))
    files: list[Path] = []
    packages: set[str] = set()
    for package in sorted(path for path in site.iterdir() if _is_foreign(path)):
        found = list(_of_package(package))
        if found and package.suffix == ".dist-info":
            packages.add(package.name)
        files += found
    files += _own()
    return Corpus(files=tuple(files), packages=len(packages), size=sum(path.stat().st_size for path in files))


def _of_package(package: Path) -> Iterator[Path]:
    modules: list[tuple[int, Path]] = []
    for path in sorted(package.rglob("*")):
        if _is_dull(path.relative_to(package.parent)) or not path.is_file():
            continue
        if path.name in _METADATA or path.suffix.lower() in _PROSE:
            if 200 <= path.stat().st_size <= _LARGEST_BYTES:
                yield path
        elif path.suffix == ".py" and (characters := _documentation(path)):
            modules.append((characters, path))
    modules.sort(key=lambda module: -module[0])
    yield from sorted(path for _, path in modules[:_MODULES_PER_PACKAGE])


def _is_foreign(folder: Path) -> bool:
    """Not docyard's own metadata, which is its README again."""
    return folder.is_dir() and not folder.name.startswith("docyard")


def _is_dull(path: Path) -> bool:
    return bool(_DULL_NAMES.search(path.name)) or any(
        part.lower().startswith("pginstall") or part.lower() in _DULL_FOLDERS for part in path.parts
    )


def _documentation(path: Path) -> int:
    """How many characters of a module are docstrings; 0 when it is rather code."""
    if not _LEAST_CHARACTERS <= path.stat().st_size <= _LARGEST_BYTES:
        return 0
    text = path.read_text(encoding="utf-8", errors="replace")
    characters = sum(map(len, _DOCSTRING.findall(text)))
    return characters if characters >= max(_LEAST_CHARACTERS, _LEAST_SHARE * len(text)) else 0


def _own() -> Iterator[Path]:
    """docyard's documentation, where it runs from its repository."""
    root = Path(__file__).parents[2]
    if (root / "pyproject.toml").is_file() and (root / "docs").is_dir():
        # Not the README: it shows what the demo prints, and would be its own best hit.
        yield from sorted((root / "docs").rglob("*.md"))
