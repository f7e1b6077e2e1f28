"""Which files and folders a walk passes over: habits, ``.gitignore`` files, and the caller's globs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

# Hidden names come first: they hold tools' state, and secrets such as `.env`.
HABITS = (
    ".*",
    "node_modules/",
    "venv/",
    "__pycache__/",
    "__pypackages__/",
    "*.egg-info/",
    "*.pyc",
    "*.pyo",
    "*~",
    "#*#",
    "*.swp",
    "*.swo",
    "*.tmp",
    "Thumbs.db",
    "desktop.ini",
)


def compile_globs(patterns: Sequence[str], what: str) -> GitIgnoreSpec | None:
    """The patterns with the meaning they have in a ``.gitignore``; ``None`` when there are none.

    Raises :class:`InvalidInput` for a pattern that git would not accept; ``what`` names the option.
    """
    if isinstance(patterns, str):
        raise InvalidInput(f"{what}: expected a list of globs, not one string: {patterns!r}")
    if not patterns:
        return None
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise InvalidInput(
            f"{what}: {error}", hint="Globs are those of a .gitignore, e.g. '*.md' or 'docs/'."
        ) from None


class IgnoreRules:
    """The rules in force inside one folder: its own ``.gitignore`` first, then those of the folders above it.

    ``prefix`` is the folder's path relative to the walk's root, ending in a slash, or empty for the root.
    """

    def __init__(self, parent: IgnoreRules | None, prefix: str, lines: Sequence[str]) -> None:
        self._parent = parent
        self._prefix = prefix
        self._spec = _lenient(lines)

    @classmethod
    def at_root(cls) -> IgnoreRules:
        """The built-in habits, which any ``.gitignore`` may overrule."""
        return cls(None, "", HABITS)

    def ignores(self, path: str) -> bool:
        """Whether a path relative to the root is passed over; a folder's path ends in a slash."""
        rules: IgnoreRules | None = self
        while rules is not None:
            verdict = rules._spec.check_file(path[len(rules._prefix) :]).include
            if verdict is not None:
                return verdict
            rules = rules._parent
        return False


def _lenient(lines: Sequence[str]) -> GitIgnoreSpec:
    # Git reads a file with a malformed line and passes over that line; so do we.
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if _is_pattern(line)])


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
