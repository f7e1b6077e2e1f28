"""Vectors that depend on nothing but text and dimension, made without numpy."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from functools import lru_cache


def count_tokens(text: str) -> int:
    return max(1, -(-len(text.encode()) // 4))


def text_vector(text: str, dimension: int) -> array[float]:
    """A corner of the unit cube, picked by a hash of the text; costs about 20 µs for 1,536 numbers."""
    digest = hashlib.shake_256(text.encode()).digest(-(-dimension // 8))
    corners = _corners(dimension)
    vector = array("f")
    vector.frombytes(b"".join([corners[byte] for byte in digest])[: dimension * 4])
    return vector


def word_vector(text: str, dimension: int) -> array[float]:
    """Texts that share words are close: each word adds to four places (feature hashing)."""
    sums = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()):
        for place, sign in _places(word, dimension):
            sums[place] += sign
    norm = math.hypot(*sums)
    return array("f", [number / norm for number in sums]) if norm else text_vector(text, dimension)


@lru_cache(maxsize=64)
def _corners(dimension: int) -> list[bytes]:
    size = 1 / math.sqrt(dimension)
    return [
        array("f", [size if byte >> bit & 1 else -size for bit in range(8)]).tobytes() for byte in range(256)
    ]


@lru_cache(maxsize=200_000)
def _places(word: str, dimension: int) -> tuple[tuple[int, int], ...]:
    digest = hashlib.blake2b(word.encode(), digest_size=20).digest()
    parts = [int.from_bytes(digest[start : start + 5]) for start in range(0, 20, 5)]
    return tuple(((part >> 1) % dimension, 1 if part & 1 else -1) for part in parts)
