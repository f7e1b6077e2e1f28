"""What a platform is told to run can be run."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cli.command_tree import all_commands
from docs.pages import ROOT

UNIT = ROOT / "deploy" / "docyard-worker.service"
CONTAINER = ROOT / "deploy" / "Containerfile"


def _is_a_command(line: str) -> bool:
    program, *words = shlex.split(line)
    known, path = all_commands(), ()
    while words and (*path, words[0]) in known:
        path = (*path, words.pop(0))
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    return Path(program).name == "docyard" and bool(path) and options <= known[path].options


def _unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_the_procfile_migrates_and_works() -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    entries = dict(line.split(": ", 1) for line in lines)
    assert entries == {"release": "docyard db migrate", "worker": "docyard worker"}
    assert all(map(_is_a_command, entries.values()))


def test_the_unit_runs_commands_that_exist_and_waits_longer_than_a_worker_does() -> None:
    service = _unit()["Service"]
    assert _is_a_command(service["ExecStart"])
    assert _is_a_command(service["ExecStartPre"])
    from docyard import Settings

    assert float(service["TimeoutStopSec"]) > Settings().shutdown_seconds
    assert _unit()["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = re.sub(r"^(Exec\w+)=.*$", r"\1=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^(User|Group)=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def test_the_container_file_copies_what_is_there_and_runs_a_worker() -> None:
    text = re.sub(r"^\s*#.*\n", "", CONTAINER.read_text(), flags=re.MULTILINE)
    steps = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    assert steps[0][0] == "FROM"
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "STOPSIGNAL", "CMD"}
    assert {step for step, _ in steps} <= known
    for sources in (rest.split()[:-1] for step, rest in steps if step == "COPY"):
        assert [source for source in sources if not (ROOT / source).exists()] == []
    [command] = [json.loads(rest) for step, rest in steps if step == "CMD"]
    assert _is_a_command(shlex.join(command))
    # Whatever the build reads is copied before it.
    copied = " ".join(rest for step, rest in steps if step == "COPY")
    for needed in (
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "docyard",
        "schema",
        "queue",
        "workers",
    ):
        assert needed in copied
