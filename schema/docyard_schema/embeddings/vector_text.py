"""A vector as pgvector reads it, exact to the bit, or the reason why it cannot be compared."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

# The index keeps vectors as halfvec: its largest number, and the smallest that is not zero there.
_LARGEST = 65504.0
_SMALLEST = 2.0**-24


def comparable(embedding: Sequence[float], dimension: int) -> array[float]:
    """A copy as float32 (float64 is rounded to it).

    Raises :class:`InvalidInput` for a vector that cannot be compared or indexed: another dimension, not
    finite, too large for ``halfvec``, or zero there (its cosine distance is NaN).
    """
    if len(embedding) != dimension:
        raise InvalidInput(f"A vector of {dimension} numbers is expected, got {len(embedding)}.")
    values = array("f", embedding)
    highest, lowest, total = max(values, default=0.0), min(values, default=0.0), sum(values)
    # NaN may hide from max and min, but not from the sum.
    if total != total or not (lowest >= -_LARGEST and highest <= _LARGEST):
        raise InvalidInput(_unfit(values))
    if max(highest, -lowest) < _SMALLEST:
        raise InvalidInput(
            "A vector with a direction is expected, got all zeros."
            if highest == lowest == 0
            else f"A vector with a direction is expected, got one with nothing above {_SMALLEST:.0e}."
        )
    return values


def vector_literal(embedding: Sequence[float], dimension: int) -> str:
    """pgvector's text form of a vector, float32 kept to the bit; raises what :func:`comparable` raises."""
    # Of the rounded values a repr is exact: the shortest text of a float64 that is a float32 names that one.
    return f"[{','.join(map(repr, comparable(embedding, dimension).tolist()))}]"


def _unfit(values: array[float]) -> str:
    if any(value != value or abs(value) == float("inf") for value in values):
        return "A vector of finite numbers is expected, got one with NaN or infinity."
    return f"A vector of numbers up to {_LARGEST:g} is expected, got one with {max(values, key=abs):g}."
