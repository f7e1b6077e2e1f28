from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli.command_tree import all_commands

from docyard import __version__

if TYPE_CHECKING:
    from cli.conftest import Docyard

COMMANDS = all_commands()


def test_help_needs_neither_database_driver_nor_models() -> None:
    heavy = (
        "psycopg openai kreuzberg wordllama numpy pydantic_settings docyard_schema docyard_workers asyncio"
    )
    code = f"import sys, docyard.cli.application\nprint(sorted(set({heavy!r}.split()) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(docyard: Docyard, path: tuple[str, ...]) -> None:
    ended = docyard(*path, "--help")
    assert ended.code == 0
    assert COMMANDS[path].help


@pytest.mark.parametrize("path", [path for path in COMMANDS if not COMMANDS[path].is_group], ids=" ".join)
def test_every_command_takes_the_global_options(path: tuple[str, ...]) -> None:
    assert {"--database-url", "--config", "--home", "--verbose", "-v", "--quiet", "-q"} <= COMMANDS[
        path
    ].options


def test_version(docyard: Docyard) -> None:
    ended = docyard("--version")
    assert (ended.code, ended.out) == (0, f"docyard {__version__}\n")


def test_without_a_command_there_is_help(docyard: Docyard) -> None:
    ended = docyard()
    assert "Usage: docyard" in ended.out + ended.err


def test_python_m_docyard_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "docyard", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"docyard {__version__}\n"
