"""All commands of the command line, for tests that compare them with something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typer.main import get_command


@dataclass(frozen=True)
class Known:
    help: str
    options: frozenset[str]
    is_group: bool


def all_commands() -> dict[tuple[str, ...], Known]:
    """The path of words → what stands there; the empty path is ``docyard`` itself."""
    from docyard.cli.application import app

    found: dict[tuple[str, ...], Known] = {}

    def visit(path: tuple[str, ...], command: Any) -> None:
        options = frozenset(name for parameter in command.params for name in parameter.opts)
        children = getattr(command, "commands", {})
        found[path] = Known(command.help or "", options | {"--help", "-h"}, bool(children))
        for name, child in children.items():
            visit((*path, name), child)

    visit((), get_command(app))
    return found
