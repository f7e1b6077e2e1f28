"""The house keeps its shape: names, layers, sizes, and what is never in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "docyard", ROOT / "workers", ROOT / "queue", ROOT / "schema"]

_CHECK = "import queue, psycopg; assert hasattr(queue, 'SimpleQueue'), queue.__file__"


def _project() -> dict[str, object]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(project, dict)
    return project


def _tracked() -> list[Path]:
    """What git has, or would take; every file where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    found = [ROOT / name for name in names] or [
        path for path in ROOT.rglob("*") if not {".venv", ".environments"} & set(path.parts)
    ]
    return [path for path in found if path.is_file()]


@pytest.mark.parametrize(
    "command",
    [
        ["-c", _CHECK],
        ["-m", "docyard", "--version"],
        ["-m", "pytest", "--version"],
        ["-m", "pip", "--version"],
    ],
    ids=["python -c", "python -m docyard", "python -m pytest", "python -m pip"],
)
def test_the_standard_librarys_queue_is_not_shadowed_from_the_root(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_standard_librarys_queue_is_not_shadowed_under_pytest(tmp_path: Path) -> None:
    test = tmp_path / "test_queue_here.py"
    test.write_text(f"def test_it():\n    {_CHECK}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", test],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["queue", "schema", "workers", "tests/queue"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_imports_only_point_down() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for folder in SOURCES
        for path in folder.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length >= 400} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "common", "helpers", "manager", "core", "misc"}
    assert [path for folder in SOURCES for path in folder.rglob("*.py") if path.stem in empty] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for folder in SOURCES
        for path in folder.rglob("*.py")
        if not path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_the_extras_are_there() -> None:
    extras = _project()["optional-dependencies"]
    assert isinstance(extras, dict)
    assert {"embedded", "local", "parsers", "all", "dev"} <= set(extras)


def test_the_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    held = [line for line in lines if line and not line.startswith("#")]
    assert held
    pattern = re.compile(
        r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*( ?; ?[a-z_]+ [=!<>]+ '[a-z0-9.]+')?"
    )
    assert [line for line in held if not pattern.fullmatch(line)] == []


def test_every_dependency_is_held_at_a_version() -> None:
    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    held = {
        normal(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    project = _project()
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]  # type: ignore[misc]
    names = {normal(re.split(r"[\[<>=;! ]", line)[0]) for line in wanted} - {"docyard"}
    assert names <= held


def test_nothing_records_where_a_package_was_downloaded_from() -> None:
    locks = {"uv.lock", "package-lock.json", "poetry.lock", "Pipfile.lock", "pdm.lock", "yarn.lock"}
    tracked = _tracked()
    assert [path for path in tracked if path.name in locks] == []
    # Addresses of package indexes, by the shape of their paths, and the options that name one.
    # Addresses of package indexes, by the shape of their paths, and the options that name one.
    hosts = re.compile(r"https?://[^\s\"']+/(simple|packages)/|--(extra-)?index[-]url|--find[-]links")
    here = Path(__file__).resolve()
    texts = {".py", ".toml", ".txt", ".md", ".cfg", ".ini", ".yml", ".yaml", ".sh", ""}
    naming = [
        str(path.relative_to(ROOT))
        for path in tracked
        if path.suffix in texts and path != here and hosts.search(path.read_text(errors="replace"))
    ]
    assert naming == []


def test_ci_runs_what_a_developer_runs() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for target in ("setup", "demo", "test", "lint"):
        assert f"make {target} " in done.stdout
