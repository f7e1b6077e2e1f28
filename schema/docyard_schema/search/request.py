"""What a caller of a search asked for: checked, and turned into the statement's parameters."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from docyard_schema.embeddings import vector_literal
from docyard_schema.errors import InvalidInput, ModelMismatch
from docyard_schema.search.snippets import HEADLINE_OPTIONS, MARKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.embeddings import EmbeddingModel
    from docyard_schema.search.question import Question

SearchMode = Literal["hybrid", "text", "vector"]

# A text branch ranks at most so many chunks: at 3 µs each that bounds a search, however common its words.
_CANDIDATES = 20_000
# Words are looked for, rarest first, until they add up to so many chunks.
_REACH = 5_000

# A name, perhaps with a schema. Not a number: regconfig would take it for an object's id.
_CONFIGURATION = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)?")


def check_request(mode: str, limit: int, offset: int, language: str, filters: dict[str, str | None]) -> None:
    """Raise :class:`InvalidInput` for what no search can be made of."""
    if mode not in get_args(SearchMode):
        raise InvalidInput(f"A mode is hybrid, text or vector, got {mode!r}.", operation="search")
    if not 1 <= limit <= 1000:
        raise InvalidInput(f"limit is 1 to 1,000, got {limit}.", operation="search")
    if not 0 <= offset <= 10_000:
        raise InvalidInput(
            f"offset is 0 to 10,000, got {offset}.",
            hint="Nobody reads so far: add words or filters. To walk through all documents, list them.",
            operation="search",
        )
    if not _CONFIGURATION.fullmatch(language):
        raise InvalidInput(
            f"A language is the name of a text search configuration, got {language!r}.", operation="search"
        )
    for name, value in filters.items():
        if value is not None and not _is_storable(value):
            raise InvalidInput(
                f"The {name} {value!r} holds a character that Postgres cannot store.", operation="search"
            )


def _is_storable(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def search_parameters(question: Question, mode: SearchMode, limit: int, offset: int) -> dict[str, Any]:
    """The statement's parameters, but for filters, language and vector."""
    # Ranks beyond the depth count nothing, so the depth must not differ between pages: one per power of ten.
    depth = 3 * max(100, 10 ** math.ceil(math.log10(limit + offset)))
    return {
        "strict": question.strict,
        # No words, no counting of chunks.
        "words": question.words if mode != "vector" else "",
        "phrases": question.phrases,
        "exclusions": question.exclusions,
        "restricted": question.is_restricted,
        "highlight": question.highlight,
        "textual": mode != "vector",
        "limit": limit,
        "offset": offset,
        "depth": depth,
        "candidates": _CANDIDATES,
        "reach": _REACH,
        "marks": "".join(MARKS),
        "headline": HEADLINE_OPTIONS,
    }


def query_vector(vector: Sequence[float], model: EmbeddingModel) -> str:
    """pgvector's text form of a query's vector. Raises :class:`ModelMismatch` when it is not of the model."""
    if len(vector) != model.dimension:
        raise ModelMismatch(
            f"The query's vector has {len(vector)} numbers, those of {model.identity.describe()} have "
            f"{model.dimension}.",
            hint="Embed the query with the model whose vectors are searched.",
            operation="search",
        )
    # Of length 1: a half-precision number ends at 65,504, and a cosine does not mind.
    length = math.sqrt(math.fsum(float(value) ** 2 for value in vector)) or 1.0
    scaled = [float(value) / length for value in vector] if math.isfinite(length) else list(vector)
    return vector_literal(scaled, model.dimension)
