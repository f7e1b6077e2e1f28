"""JSON and JSON lines as lines of ``path: value``, so that keys and values are both found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docyard_workers.ingest.decoding import decode, drop_nul
from docyard_workers.ingest.media_type import JSON_LINES
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_PATH = 120


class _Written(str):
    """A number or literal, kept as it was written: ``1e400`` and 30 digits survive."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object's members, duplicate keys included."""

    __slots__ = ()


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Written, parse_float=_Written, parse_constant=_Written
)


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """One line per value, a blank line between the members of a list of objects.

    What is not JSON (comments, a trailing comma, a cut-off file, thousands of levels) is kept as it is,
    with a warning.
    """
    decoded = decode(data, media_type)
    if media_type == JSON_LINES:
        text, warnings = _json_lines(decoded.text)
    else:
        text, warnings = _json(decoded.text)
    text, dropped = drop_nul(text)
    return ParsedDocument(
        title=title_from_name(name),
        text=_printable(text),
        format="plain",
        warnings=(*decoded.warnings, *warnings, *dropped),
    )


def _json(text: str) -> tuple[str, tuple[str, ...]]:
    if not text.strip():
        return "", ()
    try:
        return "\n".join(_lines(_DECODER.decode(text))), ()
    except (ValueError, RecursionError) as error:
        return text, (f"not read as JSON, kept as it is: {type(error).__name__}",)


def _json_lines(text: str) -> tuple[str, tuple[str, ...]]:
    records: list[str] = []
    bad = 0
    for line in text.split("\n"):
        if line.strip():
            record, warnings = _json(line.strip())
            records.append(record)
            bad += bool(warnings)
    warnings = (f"{bad} lines are not JSON, kept as they are",) if bad else ()
    return "\n\n".join(records), warnings


def _lines(root: Any) -> Iterator[str]:
    """Walks with a stack of its own: depth is the document's choice, not Python's."""
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, _Pairs):
            stack.extend(
                (_shortened(f"{path}.{key}" if path else key), item) for key, item in reversed(value)
            )
        elif isinstance(value, list) and any(isinstance(item, list) for item in value):
            for index in range(len(value) - 1, -1, -1):
                stack.append((f"{path}[{index}]", value[index]))
                if index and isinstance(value[index], _Pairs):
                    stack.append(("", _BLANK))
        elif value is _BLANK:
            yield ""
        elif value != []:
            values = ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)
            yield f"{path}: {values}" if path else values


_BLANK = object()


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    return {True: "true", False: "false"}.get(value, "null") if value is not None else "null"


def _shortened(path: str) -> str:
    return path if len(path) <= _MAX_PATH else "…" + path[-_MAX_PATH:]


def _printable(text: str) -> str:
    r"""Lone surrogates, which only a ``\ud800`` in JSON can make, are written as JSON writes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text
