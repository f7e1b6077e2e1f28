"""What is built and installed elsewhere is whole."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "docyard": ROOT / "docyard",
    "docyard_workers": ROOT / "workers" / "docyard_workers",
    "docyard_queue": ROOT / "queue" / "docyard_queue",
    "docyard_schema": ROOT / "schema" / "docyard_schema",
}

_SCRIPT = """
import sys
sys.path[:] = [sys.argv[1], *(entry for entry in sys.path if entry not in sys.argv[2:])]
import asyncio, pathlib
import docyard_schema, docyard_queue, docyard_workers, docyard
for module in (docyard_schema, docyard_queue, docyard_workers, docyard):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
from docyard import Docyard, load_settings
from docyard_schema.migrations import load_steps

async def main(url, folder):
    given = {"DOCYARD_AUTO_MIGRATE": "1", "DOCYARD_EMBEDDING_PROVIDER": "wordllama"}
    settings = load_settings(environment=given)
    async with Docyard.open(url, settings=settings) as yard:
        await yard.ingest([folder])
        await yard.work()
        print("found", [hit.title for hit in await yard.search("marmots")])

asyncio.run(main(*sys.stdin.read().split("|")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_has_every_module_query_and_schema_step(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.suffix in {".py", ".sql", ".typed"} and "__pycache__" not in path.parts
    }
    assert expected
    assert expected - inside == set()
    assert any(name.endswith(".sql") for name in expected)


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.namelist()
    assert {name.partition("/")[0] for name in inside} - set(PACKAGES) == {
        next(name.partition("/")[0] for name in inside if ".dist-info/" in name)
    }
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in inside}
    assert not [name for name in inside if "__pycache__" in name or "/tests/" in name]


def test_what_the_wheel_installs_works_without_the_repository(
    wheel: Path, tmp_path: Path, empty_url: str
) -> None:
    site, texts = tmp_path / "site", tmp_path / "texts"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    texts.mkdir()
    (texts / "note.txt").write_text("Marmots whistle when an eagle comes.")
    sources = [str(ROOT), *(str(folder.parent) for folder in PACKAGES.values())]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(site), *sources],
        input=f"{empty_url}|{texts}", cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "found ['note']" in done.stdout
