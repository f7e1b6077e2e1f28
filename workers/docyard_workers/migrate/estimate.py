"""What a reembed would take, reckoned from the chunks without asking a provider anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docyard_schema.embeddings import ModelRepository
from docyard_schema.embeddings.coverage import workload
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from decimal import Decimal

    from docyard_schema import Database, ModelIdentity
    from docyard_workers.embed.providers import EmbeddingProvider

# Assumed, and said so: how long a remote model takes, what is made locally, what Postgres takes of vectors.
REQUEST_SECONDS = 0.5
LOCAL_TOKENS_PER_SECOND = 500_000
ROWS_PER_SECOND = 2_000

_ROW_BYTES = 100
_LINKS_BYTES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is to be done for a model, and what it would take; ``None`` is unknown without asking.

    ``chunks`` lack a vector; ``texts`` of them are different and travel, with ``tokens``, in ``requests`` at
    least. ``price`` is in US dollars. ``seconds`` rests on ``assumed``. ``bytes`` is the room that vectors
    and index need beside the others.
    """

    model: str
    provider: str
    dimension: int | None
    registered: bool
    chunks: int
    texts: int
    tokens: int
    requests: int
    price: Decimal | None
    seconds: float
    assumed: str
    bytes: int | None


async def estimate(database: Database, provider: EmbeddingProvider, name: str) -> Estimate:
    """Reckon for the model of ``provider``, which is not started; ``name`` is what the caller called it."""
    identity = _identity(provider)
    known = await ModelRepository(database).get(identity.name if identity else name)
    dimension = identity.dimension if identity else (known.dimension if known else None)
    work = await workload(database, known)
    limits = provider.limits
    requests = max(
        -(-work.texts // limits.max_texts_per_request), -(-work.tokens // limits.max_tokens_per_request)
    )
    price = limits.price_per_million_tokens
    if limits.pays_per_request:
        at_once = limits.parallel_requests
        asking = -(-requests // at_once) * REQUEST_SECONDS
        assumed = f"{REQUEST_SECONDS:g} s per request, {at_once} at once by one process"
    else:
        asking = work.tokens / LOCAL_TOKENS_PER_SECOND
        assumed = f"{LOCAL_TOKENS_PER_SECOND:,} tokens/s in this process"
    each = None if dimension is None else 6 * dimension + _ROW_BYTES + _LINKS_BYTES
    return Estimate(
        model=identity.name if identity else name,
        provider=provider.name,
        dimension=dimension,
        registered=known is not None,
        chunks=work.chunks,
        texts=work.texts,
        tokens=work.tokens,
        requests=requests,
        price=None if price is None else price * work.tokens / 1_000_000,
        seconds=max(asking, work.chunks / ROWS_PER_SECOND),
        assumed=f"{assumed}; {ROWS_PER_SECOND:,} vectors/s written; without the index",
        bytes=None if each is None else work.chunks * each,
    )


def _identity(provider: EmbeddingProvider) -> ModelIdentity | None:
    try:
        return provider.model
    except InvalidInput:
        return None  # only an answer tells its dimension
