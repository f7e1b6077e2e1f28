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


def vector_literal(embedding: Sequence[float], dimension: int) -> str:
    """pgvector's text form of a vector, float32 kept to the bit (float64 is rounded to it first).

    Raises :class:`InvalidInput` for a vector that cannot be compared or indexed: another dimension, not
    finite, too large for ``halfvec``, or zero there (its cosine distance is NaN).
    """
    if len(embedding) != dimension:
        raise InvalidInput(f"A vector of {dimension} numbers is expected, got {len(embedding)}.")
    # Of the rounded values a repr is exact: the shortest text of a float64 that is a float32 names that one.
    values = array("f", embedding).tolist()
    longest = 0.0
    for value in values:
        size = abs(value)
        if not size <= _LARGEST:
            raise InvalidInput(
                "A vector of finite numbers is expected, got one with NaN or infinity."
                if value != value or size == float("inf")
                else f"A vector of numbers up to {_LARGEST:g} is expected, got one with {value:g}."
            )
        longest = max(longest, size)
    if longest < _SMALLEST:
        raise InvalidInput(
            "A vector with a direction is expected, got all zeros."
            if longest == 0
            else f"A vector with a direction is expected, got one with nothing above {_SMALLEST:.0e}."
        )
    return f"[{','.join(map(repr, values))}]"
