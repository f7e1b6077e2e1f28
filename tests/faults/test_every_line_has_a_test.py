"""Every fault has a test that injects it, and the page of faults names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
LINES = set(range(1, 25))


def marks(nodes: list[ast.expr]) -> set[int]:
    """The lines that ``pytest.mark.fault(…)`` names somewhere in these expressions."""
    return {
        ast.literal_eval(argument)
        for expression in nodes
        for node in ast.walk(expression)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault"
        for argument in node.args
    }


def injecting() -> dict[str, set[tuple[str, int]]]:
    """Name of a test → the modules that it is in, with each line that it injects there."""
    found: dict[str, set[tuple[str, int]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        module = ast.parse(path.read_text())
        everywhere = [
            node.value
            for node in module.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        ]
        for node in module.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for line in marks([*everywhere, *node.decorator_list]):
                    where = path.relative_to(ROOT / "tests").as_posix()
                    found.setdefault(node.name, set()).add((where, line))
    return found


def rows() -> dict[int, list[str]]:
    """The page's table: line → its cells."""
    table = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {int(number): cells.split("|") for number, cells in table}


def test_every_line_is_injected_by_a_test() -> None:
    covered = {line for places in injecting().values() for _, line in places}
    assert covered == LINES


def test_the_page_has_every_line_and_names_tests_that_inject_it() -> None:
    tests = injecting()
    assert set(rows()) == LINES
    for line, cells in rows().items():
        named = re.findall(r"`(test_\w+)`", cells[-1])
        assert named, f"line {line} names no test"
        for test in named:
            assert line in {number for _, number in tests.get(test, set())}, f"line {line}: {test}"


def test_the_page_names_every_module_that_injects_a_line() -> None:
    missing = [
        (line, module)
        for places in injecting().values()
        for module, line in places
        if f"`{module}`" not in rows()[line][-1]
    ]
    assert sorted(set(missing)) == []


def test_the_tests_that_the_page_names_for_vectors_are_there() -> None:
    table = re.findall(r"^\| V(\d+) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in table] == [*range(1, len(table) + 1)]
    for number, cells in table:
        named = re.findall(r"`(test_\w+)`", cells.split("|")[-1])
        modules = re.findall(r"`(\w+/test_\w+\.py)`", cells.split("|")[-1])
        there = "".join((ROOT / "tests" / module).read_text() for module in modules)
        assert named, f"V{number}"
        for test in named:
            assert f"def {test}(" in there, f"V{number}: {test}"
