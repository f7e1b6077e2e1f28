from __future__ import annotations

import pytest

from docyard_schema.search.question import read_question


@pytest.mark.parametrize(
    ("query", "strict", "phrases", "exclusions"),
    [
        ("a b", "a b", "", ""),
        ('a "b c"', 'a "b c"', '"b c"', ""),
        ('a -b -"c d"', "a", "", '-b -"c d"'),
        ('"a b" or "c d" e', '"a b" or "c d" e', '"a b" or "c d"', ""),
        ('"a b" or c d', '"a b" or c d', '"a b" or c or d', ""),
        ("a or b", "a or b", "", ""),
        ("a or -b or c", "a or c", "", "-b"),
        ("a - b", "a b", "", ""),
        ("--a", "a", "", ""),
        ("well-known", "well-known", "", ""),
        ('say"a b"', 'say "a b"', '"a b"', ""),
        ('"unclosed phrase', '"unclosed phrase"', '"unclosed phrase"', ""),
    ],
)
def test_a_query_is_taken_apart(query: str, strict: str, phrases: str, exclusions: str) -> None:
    question = read_question(query)
    assert (question.strict, question.phrases, question.exclusions) == (strict, phrases, exclusions)


def test_words_are_those_that_are_wanted() -> None:
    question = read_question('red "apple pie" or tart -worm')
    assert question.words.split() == ["red", "apple", "pie", "tart"]
    assert question.highlight == "red or apple or pie or tart"
    assert question.is_restricted


def test_decomposed_letters_are_composed() -> None:
    assert read_question("cafe\u0301").words == "café"


@pytest.mark.parametrize("query", ["", "-a", '-"a b"', "or or", '"" - ""'])
def test_a_query_without_wanted_words_is_empty(query: str) -> None:
    assert read_question(query).is_empty
