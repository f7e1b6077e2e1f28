"""What the documentation says about commands and events is so."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from cli.command_tree import all_commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
PACKAGES = ("docyard", "workers/docyard_workers", "queue/docyard_queue", "schema/docyard_schema")


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            # Where there is a prompt, the other lines are what the command said.
            prompt = r"\$ " if re.search(r"^\s*\$ ", block, re.MULTILINE) else ""
            calls = re.findall(rf"^\s*{prompt}(?:\.venv/bin/)?docyard( .*)?$", block, re.MULTILINE)
            found += [(page.name, call.strip()) for call in calls]
    return found


@pytest.mark.parametrize(("page", "line"), sorted(set(_commands())))
def test_every_command_in_the_documentation_exists(page: str, line: str) -> None:
    known = all_commands()
    words = shlex.split(line.partition(" | ")[0], comments=True)
    path: tuple[str, ...] = ()
    for word in words:
        if (*path, word) in known:
            path = (*path, word)
    assert path or not words or words[0].startswith("-"), f"{page}: no such command: docyard {line}"
    assert not known[path].is_group or "--help" in words or not path, f"{page}: incomplete: docyard {line}"
    allowed = known[path].options | known[()].options
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in allowed, f"{page}: docyard {line} has no option {word}"


def _logged() -> dict[str, set[str]]:
    """Every event in the code with the fields that its calls name."""
    events: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text())
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                function = call.func
                if not (
                    isinstance(function, ast.Attribute)
                    and function.attr in LEVELS
                    and isinstance(function.value, ast.Name)
                    and function.value.id in ("_log", "log", "logger")
                ):
                    continue
                fields = {keyword.arg for keyword in call.keywords if keyword.arg}
                for name in _names(call.args[0], tree):
                    events.setdefault(name, set()).update(fields)
    return events


def _names(given: ast.expr, tree: ast.Module) -> list[str]:
    """The event itself, or what the variable that holds it can be."""
    if isinstance(given, ast.Name):
        assigned = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == given.id for target in node.targets)
        ]
        return [name for value in assigned for name in _names(value, tree)]
    if isinstance(given, ast.IfExp):
        return _names(given.body, tree) + _names(given.orelse, tree)
    assert isinstance(given, ast.Constant), f"an event that cannot be read: {ast.unparse(given)}"
    return [str(given.value)]


def _documented() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \|", (ROOT / "docs/events.md").read_text(), re.MULTILINE
    )
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    assert set(_documented()) - {"library.logged"} == set(_logged())


def test_the_documented_fields_are_those_of_the_code() -> None:
    documented = _documented()
    for event, fields in _logged().items():
        assert fields <= documented[event], f"{event} has undocumented fields"


def test_events_are_noun_and_verb() -> None:
    for event in _documented():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", event)
