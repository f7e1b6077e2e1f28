"""The Python and TOML in the documentation is run, against a real database."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from docs.pages import PAGES, ROOT, blocks, name
from support.yards import open_yard, rows

from docyard import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from docyard_queue import Registry

_RUN = [ROOT / "README.md", ROOT / "docs" / "quickstart.md"]


def _registry(file: Path) -> Registry:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Registry = module.registry
    return found


@pytest.mark.parametrize("page", _RUN, ids=name)
async def test_what_a_page_shows_works_from_top_to_bottom(url: str, tmp_path: Path, page: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "marmots.txt").write_text("Marmots whistle when an eagle comes.")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint)")
        connection.execute("CREATE TABLE charges (order_id bigint)")
    environment = {"DOCYARD_DATABASE_URL": url, "DOCYARD_EMBEDDING_PROVIDER": "wordllama"}
    printed, registry = "", None
    for snippet in blocks(page, "python"):
        if named := re.match(r"# (\w+\.py)\n", snippet):
            (tmp_path / named[1]).write_text(snippet)
            registry = _registry(tmp_path / named[1])
            continue
        done = subprocess.run(
            [sys.executable, "-c", snippet], env=os.environ | environment, cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{snippet}\n{done.stderr}"
        printed += done.stdout
    assert "marmots Marmots whistle" in printed
    assert registry is not None, "the page shows a handler"
    async with open_yard(url, registry=registry) as yard:
        await yard.work()
        assert await rows(yard.database, "SELECT order_id FROM public.charges") == [(7,)]


def test_python_in_other_pages_is_python() -> None:
    shown = [
        (name(page), snippet) for page in PAGES if page not in _RUN for snippet in blocks(page, "python")
    ]
    for page, snippet in shown:
        compile(snippet, page, "exec")


def test_settings_files_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    shown = [snippet for page in PAGES for snippet in blocks(page, "toml")]
    assert shown
    for snippet in shown:
        (tmp_path / "docyard.toml").write_text(snippet)
        assert load_settings(file=tmp_path / "docyard.toml", environment={})


def test_every_setting_that_a_page_names_exists() -> None:
    from docyard.settings import setting_names

    known = {f"DOCYARD_{setting.upper()}" for setting in setting_names()}
    for page in PAGES:
        for setting in re.findall(r"DOCYARD_[A-Z_]+[A-Z](?![A-Z_*])", page.read_text()):
            assert setting in known, f"{name(page)} names {setting}"


def test_the_example_makes_a_folder_searchable(tmp_path: Path, url: str) -> None:
    (tmp_path / "note.txt").write_text("Marmots whistle when an eagle comes.")
    environment = {"DOCYARD_DATABASE_URL": url, "DOCYARD_EMBEDDING_PROVIDER": "wordllama"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "search_folder.py", tmp_path, "who whistles?"],
        env=os.environ | environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 new, 0 changed" in done.stdout
    assert "Marmots whistle" in done.stdout
