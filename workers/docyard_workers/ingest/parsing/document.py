"""What a parser gives: a title, text, and what else the file said about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

TextFormat = Literal["markdown", "plain", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """The searchable text of a file.

    ``title`` and ``text`` hold no NUL. ``language`` is a BCP 47 tag the file itself names, or ``None``.
    ``metadata`` is fit for JSON. ``warnings`` say what was left out or guessed.
    """

    title: str
    text: str
    format: TextFormat
    language: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def title_from_name(name: str) -> str:
    """The file's name without its extension: the title of last resort."""
    return PurePosixPath(name).stem or name
