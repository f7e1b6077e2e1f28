"""reStructuredText, converted to Markdown.

Ours, because kreuzberg leaves out the bodies of directives it does not know, and with them most of a
page written for Sphinx; docutils refuses what only Sphinx knows. Nothing readable is left out here:
an unknown directive gives its arguments and its body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.headings import first_heading
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name
from docyard_workers.ingest.parsing.rst_inline import Inline

if TYPE_CHECKING:
    from collections.abc import Sequence


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+$")
_TABLE_BORDER = re.compile(r"(?:=+(?:\s+=+)+|-+(?:\s+-+)+|\+[-=+]+\+)\s*$")
_FIELD = re.compile(r":([^:\s`][^:`]*):(?:\s+(.*)|$)")
_DIRECTIVE = re.compile(r"\.\. +(?:\|[^|]+\| +)?([\w:.+-]+?) ?::(?:\s+(.*)|$)")
_FOOTNOTE = re.compile(r"\.\. +\[([^\]]+)\]\s*(.*)")
_ITEM = re.compile(r"(?:[-*+•]|(?:\d+|[a-zA-Z#])[.)]|\((?:\d+|[a-zA-Z])\))\s+")
_CODE = _names(
    "code code-block sourcecode parsed-literal doctest testcode testoutput productionlist math prompt"
)
_SILENT = _names(
    "toctree contents index highlight currentmodule meta tabularcolumns sectionauthor moduleauthor "
    "codeauthor default-role role include literalinclude raw sectnum replace unicode"
)
_LABELS = _names(
    "note warning tip hint important caution danger error attention seealso versionadded versionchanged "
    "versionremoved deprecated todo"
)
_WORDS = _names("admonition rubric topic sidebar centered table list-table csv-table epigraph only container")
_IMAGES = frozenset({"image", "figure"})
_MAX_DEPTH = 40


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The document as Markdown; a list of fields that opens it is metadata."""
    decoded = decode(data, media_type)
    lines = [line.rstrip() for line in decoded.text.expandtabs(8).split("\n")]
    metadata, lines = _docinfo(lines)
    text = "\n".join(_Converter(Inline.of(decoded.text)).convert(lines, 0)).strip("\n")
    text = re.sub(r"\n{3,}", "\n\n", text)
    return ParsedDocument(
        title=first_heading(text) or title_from_name(name),
        text=text,
        format="markdown",
        metadata=metadata,
        warnings=decoded.warnings,
    )


def _docinfo(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    metadata: dict[str, str] = {}
    position = 0
    for position, line in enumerate(lines):  # noqa: B007 (where it ended is wanted)
        field = _FIELD.match(line)
        if field is None and line:
            break
        if field is not None and field[2]:
            metadata[field[1].lower()] = field[2]
    return metadata, lines[position:]


class _Converter:
    """Turns lines into lines; the level of a heading is the order in which its underline first came."""

    def __init__(self, inline: Inline) -> None:
        self._inline = inline
        self._levels: list[str] = []

    def convert(self, lines: Sequence[str], depth: int) -> list[str]:
        if depth > _MAX_DEPTH:
            return list(lines)
        out: list[str] = []
        position = 0
        while position < len(lines):
            position = self._step(lines, position, depth, out)
        return out

    def _step(self, lines: Sequence[str], at: int, depth: int, out: list[str]) -> int:
        line = lines[at]
        if not line:
            out.append("")
            return at + 1
        if line[0] == " ":
            end = _block_end(lines, at)
            out += [*self.convert(_dedent(lines[at:end]), depth + 1), ""]
            return end
        if line.startswith(".. ") or line == "..":
            end = _block_end(lines, at + 1)
            out += ["", *self._explicit(line, lines[at + 1 : end], depth), ""]
            return end
        if line.startswith("__ ") or _TABLE_BORDER.match(line):
            return at + 1
        if line.startswith(">>> "):
            end = next((i for i in range(at, len(lines)) if not lines[i]), len(lines))
            out += [*_fenced("python", lines[at:end]), ""]
            return end
        return self._heading(lines, at, out) or self._paragraph(lines, at, out)

    def _heading(self, lines: Sequence[str], at: int, out: list[str]) -> int | None:
        if len(lines[at]) > 2 and _ADORNMENT.match(lines[at]):
            if at + 2 >= len(lines) or not lines[at + 1] or lines[at + 2] != lines[at]:
                return at + 1 if len(lines[at]) > 3 else None  # a rule between two parts, or an ellipsis
            title, style, end = lines[at + 1], "over" + lines[at][0], at + 3
        elif (
            at + 1 < len(lines)
            and (mark := _ADORNMENT.match(lines[at + 1]))
            and _fits(lines[at + 1], lines[at])
        ):
            title, style, end = lines[at], mark[1], at + 2
        else:
            return None
        if style not in self._levels:
            self._levels.append(style)
        out += [
            "",
            f"{'#' * min(self._levels.index(style) + 1, 6)} {self._inline.convert(title.strip())}",
            "",
        ]
        return end

    def _paragraph(self, lines: Sequence[str], at: int, out: list[str]) -> int:
        line = lines[at]
        item = _ITEM.match(line)
        field = _FIELD.match(line)
        if item:
            line = f"- {line[item.end() :]}" if line[0] in "-*+•" else line
        elif field:
            line = f"{field[1]}: {field[2] or ''}".rstrip()
        elif line.startswith("| "):
            line = line[2:] if not line.endswith("|") else line
        if not line.endswith("::"):
            out.append(self._inline.convert(line))
            return at + 1
        out += [self._inline.convert(line[:-1]) if line != "::" else "", ""]
        start = next((i for i in range(at + 1, len(lines)) if lines[i]), len(lines))
        if start == len(lines) or lines[start][0] != " ":
            return at + 1
        end = _block_end(lines, start)
        out += [*_fenced("", _dedent(lines[start:end])), ""]
        return end

    def _explicit(self, line: str, body: Sequence[str], depth: int) -> list[str]:
        footnote = _FOOTNOTE.match(line)
        if footnote:
            return self.convert([f"[{footnote[1]}] {footnote[2]}", *_dedent(body)], depth + 1)
        directive = _DIRECTIVE.match(line)
        if directive is None:  # a comment, a target or a substitution's definition
            return []
        name, argument = directive[1].split(":")[-1].lower(), directive[2] or ""
        options, body = _options(_dedent(body))
        if name in _SILENT or name.startswith("auto"):
            return []
        if name in _CODE:
            return _fenced(
                argument if name in {"code", "code-block", "sourcecode"} else "", body or [argument]
            )
        if name in _IMAGES:
            return [options.get("alt", ""), "", *self.convert(body, depth + 1)]
        return [self._caption(name, argument), "", *self.convert(body, depth + 1)]

    def _caption(self, name: str, argument: str) -> str:
        if name in _LABELS:
            label = {"seealso": "See also", "versionadded": "Added in", "versionchanged": "Changed in"}.get(
                name
            )
            return f"{label or name.capitalize()}: {self._inline.convert(argument)}".rstrip(": ")
        if name in _WORDS or not argument:
            return self._inline.convert(argument) if name != "only" else ""
        return f"`{argument.replace('`', '')}`"


def _block_end(lines: Sequence[str], start: int) -> int:
    """Behind the indented lines that begin at ``start``, blank ones between them included."""
    end = start
    for position in range(start, len(lines)):
        if lines[position]:
            if lines[position][0] != " ":
                break
            end = position + 1
    return end


def _dedent(lines: Sequence[str]) -> list[str]:
    indents = [len(line) - len(line.lstrip(" ")) for line in lines if line]
    margin = min(indents, default=0)
    return [line[margin:] for line in lines]


def _options(body: list[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    for position, line in enumerate(body):
        field = _FIELD.match(line)
        if field is None:
            return options, body[position:]
        options[field[1].lower()] = field[2] or ""
    return options, []


def _fenced(language: str, body: Sequence[str]) -> list[str]:
    longest = max((len(run) for line in body for run in re.findall("`{3,}", line)), default=2)
    fence = "`" * (longest + 1)
    text = "\n".join(body).strip("\n")
    return [f"{fence}{language.strip()}", text, fence] if text else []


def _fits(underline: str, title: str) -> bool:
    return len(underline) >= len(title) or len(underline) >= 4
