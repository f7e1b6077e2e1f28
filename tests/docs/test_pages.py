"""Pages name files, links and targets that exist, and are found from the index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from docs.pages import PAGES, ROOT, name

if TYPE_CHECKING:
    from pathlib import Path

_FOLDERS = ("docyard", "workers", "queue", "schema", "tests", "docs", "deploy", "examples", ".ci")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def _files() -> set[str]:
    found = {path.name for path in ROOT.iterdir() if path.is_file()}
    for folder in _FOLDERS:
        found |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in _LINK.findall(text):
        if "://" not in target and not target.startswith("#"):
            path = page.parent / unquote(target.partition("#")[0])
            assert path.exists(), f"{name(page)}: {target}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/design/parser-isolation.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    files = _files()
    named = re.findall(r"`([\w./-]+\.(?:py|sql|md|service))`", (ROOT / page).read_text())
    assert named
    for file in named:
        assert file in files or any(found.endswith(f"/{file}") for found in files), f"{page} names {file}"


def test_every_folder_of_the_house_is_in_its_description() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = ["docyard", "workers/docyard_workers", "queue/docyard_queue", "schema/docyard_schema"]
    for package in packages:
        for folder in (ROOT / package).iterdir():
            if (folder / "__init__.py").is_file():
                assert f"{folder.name}/" in text or folder.name in text, f"{folder} is not described"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if ROOT / "docs" in page.parents]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:`|^\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert target in targets, f"{name(page)}: make {target}"


def test_the_changelog_tells_of_this_version() -> None:
    import docyard

    assert f"## {docyard.__version__}" in (ROOT / "CHANGELOG.md").read_text()
