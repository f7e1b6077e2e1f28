"""Where things are, as short as a person can still use it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote

from docyard.cli.output import harmless

if TYPE_CHECKING:
    from pathlib import Path


def short_source(uri: str) -> str:
    """A ``file://`` URI as a path, relative when it is in the current folder; others as they are."""
    if not uri.startswith("file:///"):
        return harmless(uri)
    return short_path(unquote(uri.removeprefix("file://"), errors="replace"))


def short_path(path: str | Path) -> str:
    """``path`` relative to the current folder when it is inside it, else absolute."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current folder is gone
        return harmless(path)
    return harmless(path if relative.startswith("..") else relative)
