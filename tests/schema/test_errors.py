"""The tree of errors: each with a code of its own, whole after a trip between processes."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING

import pytest

from docyard_schema import ConnectionRejected, DatabaseUnavailable, DocyardError, errors

if TYPE_CHECKING:
    from collections.abc import Iterator


def tree(kind: type[DocyardError] = DocyardError) -> Iterator[type[DocyardError]]:
    if kind.__module__ == errors.__name__:
        yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()))
def test_an_error_pickles_whole(kind: type[DocyardError]) -> None:
    error = kind("It broke.", hint="Mend it.", operation="test", reason="because", rows=[1, 2])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.hint, copy.operation) == ("It broke.", "Mend it.", "test")
    assert copy.details == {"reason": "because", "rows": [1, 2]}
    assert copy.args == error.args
    assert str(copy) == str(error) == "It broke.\nMend it."


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree()]
    assert sorted(codes) == sorted(set(codes))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in tree() if kind is not DocyardError)


def test_what_waiting_cannot_mend_is_not_retryable() -> None:
    assert DatabaseUnavailable("x").retryable
    assert not ConnectionRejected("x").retryable
    assert isinstance(ConnectionRejected("x"), DatabaseUnavailable)
