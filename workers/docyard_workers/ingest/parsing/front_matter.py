"""The YAML (``---``) or TOML (``+++``) block that may open a Markdown file."""

from __future__ import annotations

import re
import tomllib
from datetime import date, time
from importlib import import_module
from math import isfinite
from typing import Any

_BLOCK = re.compile(
    r"(?:---[ \t]*\n(?P<yaml>.*?)^(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.*?)^\+\+\+)[ \t]*(?:\n|\Z)",
    re.S | re.M,
)
_FIRST_LINE = re.compile(r"\s*(?:#|[\w\"'-][^:\n]*:(?:\s|$)|[\w\"'.-]+\s*=)")
_MAX_CHARACTERS = 65_536
_MAX_NODES = 10_000
_MAX_DEPTH = 20


def split_front_matter(text: str) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """The metadata, the text behind it, and warnings.

    A malformed block is a warning and is left out of the text; what merely looks like a rule between two
    lines (``---``) stays. Values are made fit for JSON; the number of values and their depth are capped,
    since a YAML alias can stand for a billion of them.
    """
    found = _BLOCK.match(text, 0, _MAX_CHARACTERS)
    if found is None:
        return {}, text, ()
    block = found["yaml"] if found["yaml"] is not None else found["toml"]
    if block.strip() and not _FIRST_LINE.match(block):
        return {}, text, ()
    rest = text[found.end() :]
    try:
        values = tomllib.loads(block) if found["yaml"] is None else _load_yaml(block)
        if values is not None and not isinstance(values, dict):
            raise ValueError("expected keys and values")
        return _Plain().convert(values or {}), rest, ()
    except ImportError:
        return {}, rest, ("front matter left out: install 'docyard[parsers]' to read YAML",)
    except (ValueError, RecursionError, OverflowError) as error:
        return {}, rest, (f"front matter left out: {type(error).__name__}",)


def _load_yaml(block: str) -> Any:
    yaml = import_module("yaml")
    try:
        return yaml.load(block, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


class _Plain:
    """Turns loaded values into what JSON and Postgres can hold, counting them."""

    def __init__(self) -> None:
        self._nodes = 0

    def convert(self, value: Any, depth: int = 0) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise ValueError("too many or too deeply nested values")
        if isinstance(value, dict):
            return {
                str(self.convert(key, depth)): self.convert(item, depth + 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, date | time):
            return value.isoformat()
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
            return value
        return str(value).replace("\0", "").encode("utf-8", "replace").decode()
