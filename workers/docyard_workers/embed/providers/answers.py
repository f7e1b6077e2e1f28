"""Reading an embeddings answer, and refusing vectors that would poison a search.

The body is read here, not by the client's own parser: that one makes a Python list of floats per vector,
which is 100 MB for 2,048 vectors of 1,536 numbers, where the arrays below are 13 MB.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import sys
from array import array
from typing import TYPE_CHECKING, Any

from docyard_workers.embed.errors import ProviderAnswerInvalid, WrongDimension
from docyard_workers.embed.providers.protocol import TextFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_workers.embed.providers.protocol import Vector

SMALLEST_NORM = 1e-6  # below it halfvec, with which the index is built, rounds to zero
LARGEST_NORM = 65_504.0  # the largest number of a halfvec


def read_answer(body: bytes, expected: int) -> tuple[list[Vector], int | None]:
    """The vectors of an answer in the order of the texts, and the tokens it says were used, if it does.

    Raises ``ProviderAnswerInvalid`` unless there are exactly ``expected`` vectors, one for each index. Their
    dimension and numbers are not looked at.
    """
    answer = _parsed(body)
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise ProviderAnswerInvalid("expected a list under 'data' in the answer, got none")
    if len(items) != expected:
        raise ProviderAnswerInvalid(f"expected {expected:,} vectors, got {len(items):,}")
    vectors: list[Vector | None] = [None] * expected
    for position, item in enumerate(items):
        index = _index(item, position, expected)
        if vectors[index] is not None:
            raise ProviderAnswerInvalid(f"expected one vector for each text, got two for index {index:,}")
        vectors[index] = _vector(item.get("embedding"), index)
    return [vector for vector in vectors if vector is not None], _tokens(answer)


def require_dimension(vectors: list[Vector], dimension: int, model: str) -> None:
    """Raise ``WrongDimension`` if any vector has not ``dimension`` numbers."""
    for vector in vectors:
        if len(vector) != dimension:
            raise WrongDimension(
                f"expected vectors of {dimension:,} dimensions from {model}, got {len(vector):,}",
                hint="Set the embedding dimension to what the server gives, or ask for another model.",
                expected=dimension,
                received=len(vector),
            )


def vector_failure(vector: Vector) -> TextFailure | None:
    """Why a vector may not be stored: cosine distances to it would be NaN, or the index cannot hold it."""
    norm = math.hypot(*vector)
    if not math.isfinite(norm):
        return TextFailure(
            code="not_finite", message="expected finite numbers, got a vector with NaN or infinity"
        )
    if norm < SMALLEST_NORM:
        return TextFailure(code="zero_vector", message="expected a direction, got a vector of zeros")
    if norm > LARGEST_NORM:
        return TextFailure(
            code="out_of_range", message=f"expected a norm up to {LARGEST_NORM:,.0f}, got {norm:,.0f}"
        )
    return None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        pass  # raised below: the decoder's error would keep the whole body alive
    raise ProviderAnswerInvalid(f"expected a JSON answer, got {len(body):,} bytes that are not")


def _index(item: Any, position: int, expected: int) -> int:
    if not isinstance(item, dict):
        raise ProviderAnswerInvalid(f"expected an object at position {position:,} of the answer, got none")
    index = item.get("index")
    if index is None:  # some servers leave it out and keep the order
        return position
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < expected:
        raise ProviderAnswerInvalid(
            f"expected an index below {expected:,} at position {position:,}, got another"
        )
    return index


def _vector(embedding: Any, index: int) -> Vector:
    vector = array("f")
    try:
        if isinstance(embedding, str):
            vector.frombytes(base64.b64decode(embedding, validate=True))
            if sys.byteorder == "big":
                vector.byteswap()
        elif isinstance(embedding, list):
            # llama.cpp writes NaN as null: one text's failure, not the answer's
            vector.extend(math.nan if number is None else number for number in embedding)
    except (binascii.Error, ValueError, TypeError, OverflowError):
        raise ProviderAnswerInvalid(
            f"expected numbers for the vector at index {index:,}, got another thing"
        ) from None
    if not vector:
        raise ProviderAnswerInvalid(f"expected a vector at index {index:,}, got none")
    return vector


def _tokens(answer: Mapping[str, Any]) -> int | None:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    for key in ("total_tokens", "prompt_tokens"):
        tokens = usage.get(key)
        if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
            return tokens
    return None
