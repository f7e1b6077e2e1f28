"""What a person typed, taken apart into what each branch of a search is asked.

The syntax is that of web search engines: ``words``, ``"a phrase"``, ``-excluded``, ``-"excluded phrase"``,
``this or that``. An exclusion holds for the whole query wherever it stands, and a dash between spaces is a
dash: Postgres' own ``websearch_to_tsquery`` reads ``postgres - manual`` as "postgres without manual".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from docyard_schema.errors import InvalidInput

LONGEST_QUERY = 10_000

_TOKEN = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+)')
# What the tsquery parser would take for an operator at the head of a word.
_OPERATORS = "-!&|():*<>'\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query's parts, each in the syntax of ``websearch_to_tsquery``; empty where there are none.

    ``strict`` is all but the exclusions; ``words`` are its words and ``highlight`` any of them;
    ``phrases`` and ``exclusions`` must hold for every chunk that is found.
    """

    strict: str
    words: str
    highlight: str
    phrases: str
    exclusions: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for; exclusions alone ask for nothing."""
        return not self.words

    @property
    def is_restricted(self) -> bool:
        """Whether phrases or exclusions hold in every branch."""
        return bool(self.phrases or self.exclusions)


def read_question(query: str) -> Question:
    """Take a query apart; every string is a valid query.

    Characters that Postgres cannot store (NUL, lone surrogates) separate words. Raises
    :class:`InvalidInput` beyond 10,000 characters.
    """
    if len(query) > LONGEST_QUERY:
        raise InvalidInput(
            f"A query has at most {LONGEST_QUERY:,} characters, got {len(query):,}.",
            hint="Search for a passage of the text, or embed the text and search by vector.",
            operation="search",
        )
    query = query.encode("utf-8", "replace").decode().replace("\x00", " ")
    query = unicodedata.normalize("NFC", query)
    # Alternatives, each a list of (text, is it a phrase?); "or" begins the next one.
    alternatives: list[list[tuple[str, bool]]] = [[]]
    exclusions: list[str] = []
    for token in _TOKEN.finditer(query):
        phrase, word = token["phrase"], token["word"]
        if phrase is not None:
            quoted = f'"{phrase}"'
            if not phrase.strip():
                continue
            if token["minus"]:
                exclusions.append(f"-{quoted}")
            else:
                alternatives[-1].append((quoted, True))
        elif word.lower() == "or":
            alternatives.append([])
        elif bare := word.lstrip(_OPERATORS):
            if word[0] == "-" and word[1] not in _OPERATORS:
                exclusions.append(f"-{bare}")
            else:
                alternatives[-1].append((bare, False))
    offered = [alternative for alternative in alternatives if alternative]
    texts = [text for alternative in offered for text, _ in alternative]
    words = " ".join(texts).replace('"', " ")
    stripped = (word.lstrip(_OPERATORS) for word in words.split())
    # One without a phrase is met by any of its words: "or" offers a way around the phrases of the others.
    phrases = [" ".join(text for text, is_phrase in alternative if is_phrase) for alternative in offered]
    required = [
        found or " or ".join(text for text, _ in alternative)
        for found, alternative in zip(phrases, offered, strict=True)
    ]
    return Question(
        strict=" or ".join(" ".join(text for text, _ in alternative) for alternative in offered),
        words=words,
        highlight=" or ".join(word for word in stripped if word and word.lower() != "or"),
        phrases=" or ".join(required) if any(phrases) else "",
        exclusions=" ".join(exclusions),
    )
