"""Vectors that depend on nothing but text and dimension, made without numpy."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from array import array
from functools import lru_cache

_PIECE = 24  # numbers: 96 bytes, which are 128 characters of base64 without padding


def count_tokens(text: str) -> int:
    return max(1, -(-len(text.encode()) // 4))


def text_vector(text: str, dimension: int) -> array[float]:
    """A corner of the unit cube, picked by a hash of the text."""
    vector = array("f")
    vector.frombytes(_joined(text, dimension, _pieces(dimension))[: dimension * 4])
    return vector


def packed_text_vector(text: str, dimension: int) -> bytes:
    """``text_vector`` in base64; costs about 5 µs for 1,536 numbers, for its pieces are in base64 already."""
    if dimension % _PIECE:
        return base64.b64encode(text_vector(text, dimension).tobytes())
    return _joined(text, dimension, _packed_pieces(dimension))


def word_vector(text: str, dimension: int) -> array[float]:
    """Texts that share words are close: each word adds to four places (feature hashing)."""
    sums = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()):
        for place, sign in _places(word, dimension):
            sums[place] += sign
    norm = math.hypot(*sums)
    return array("f", [number / norm for number in sums]) if norm else text_vector(text, dimension)


def _joined(text: str, dimension: int, pieces: list[bytes]) -> bytes:
    digest = hashlib.shake_128(text.encode()).digest(-(-dimension // _PIECE))
    return b"".join([pieces[byte] for byte in digest])


@lru_cache(maxsize=64)
def _pieces(dimension: int) -> list[bytes]:
    """Of each of 256 numbers a corner of ``_PIECE`` dimensions."""
    size = 1 / math.sqrt(dimension)
    bits = [int.from_bytes(hashlib.blake2b(bytes([byte]), digest_size=4).digest()) for byte in range(256)]
    return [
        array("f", [size if bit >> place & 1 else -size for place in range(_PIECE)]).tobytes() for bit in bits
    ]


@lru_cache(maxsize=64)
def _packed_pieces(dimension: int) -> list[bytes]:
    return [base64.b64encode(piece) for piece in _pieces(dimension)]


@lru_cache(maxsize=200_000)
def _places(word: str, dimension: int) -> tuple[tuple[int, int], ...]:
    digest = hashlib.blake2b(word.encode(), digest_size=20).digest()
    parts = [int.from_bytes(digest[start : start + 5]) for start in range(0, 20, 5)]
    return tuple(((part >> 1) % dimension, 1 if part & 1 else -1) for part in parts)
