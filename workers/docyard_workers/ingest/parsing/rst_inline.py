"""The marks within a line of reStructuredText."""

from __future__ import annotations

import re
from dataclasses import dataclass


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ROLE = re.compile(r":[a-zA-Z][\w:.+-]*:`([^`\n]+)`|`([^`\n]+)`:[a-zA-Z][\w:.+-]*:")
_WORD_ROLES = _names(
    "ref doc term any numref abbr title emphasis strong sub sup download pep rfc dfn guilabel"
)
_TARGET = re.compile(r"\s*<[^<>]*>$")
_LITERAL = re.compile(r"``(\S(?:[^\n]*?\S)?)``")
_REFERENCE = re.compile(r"(?<![`\w])`([^`\n]+)`__?(?!\w)")
_SUBSTITUTED = re.compile(r"\|([^|\s](?:[^|\n]*[^|\s])?)\|_{0,2}")
_DEFINED = re.compile(r"^\.\. +\|([^|\n]+)\| +replace:: *(.+)$", re.M)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Inline:
    """Converts roles, references and literals; knows the document's own substitutions."""

    substitutions: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Inline:
        """With the substitutions that a document defines."""
        return cls(dict(_DEFINED.findall(text)))

    def convert(self, line: str) -> str:
        """The line in Markdown: words for references, code for literals and for roles that name code."""
        if not any(mark in line for mark in "`|\\"):
            return line
        parts = _LITERAL.split(line)  # text, literal, text, …: nothing within a literal is a mark
        return "".join(f"`{part}`" if index % 2 else self._text(part) for index, part in enumerate(parts))

    def _text(self, text: str) -> str:
        text = _ROLE.sub(_role, text)
        text = _REFERENCE.sub(lambda found: _TARGET.sub("", found[1]), text)
        if self.substitutions:
            text = _SUBSTITUTED.sub(lambda found: self.substitutions.get(found[1], found[0]), text)
        return _ESCAPE.sub(lambda found: "" if found[1] == " " else found[0], text)


def _role(found: re.Match[str]) -> str:
    content = found[1] or found[2]
    names = found[0].replace(f"`{content}`", "").strip(":").split(":")
    words = _TARGET.sub("", content).lstrip("!~")
    return (words or content) if names[-1].lower() in _WORD_ROLES else f"`{words or content}`"
