"""The seam between docyard and whatever makes vectors.

A provider says what it is (``model``), what it bears (``limits``) and whose allowance it uses (``account``),
and turns texts into vectors. It sends one request per call and never retries, waits, splits or packs: that is
the caller's work, who knows the other texts, the other workers and the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from array import array
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from decimal import Decimal

    from docyard_schema.embeddings import ModelIdentity

Vector: TypeAlias = "array[float]"
"""One float32 vector: ``array('f')``, so that no numpy is needed and 1,536 numbers take 6 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """What one request may carry, and what it costs; in tokens of :meth:`EmbeddingProvider.count_tokens`.

    ``parallel_requests`` is how many one process sends at once. ``pays_per_request``: fuller requests are
    fewer requests, which is worth waiting for; not so for a local model. ``price_per_million_tokens`` is in
    US dollars: zero for a local model, ``None`` when unknown.
    """

    max_tokens_per_text: int = 8_192
    max_texts_per_request: int = 2_048
    max_tokens_per_request: int = 300_000
    parallel_requests: int = 4
    pays_per_request: bool = True
    price_per_million_tokens: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFailure:
    """Why one text has no vector, while the others of its request have theirs.

    ``code`` is one of ``empty``, ``too_long``, ``not_unicode`` (known before asking), ``not_finite``,
    ``zero_vector`` and ``out_of_range`` (seen in the answer).
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one call, in the order of its texts.

    ``vectors[i]`` is ``None`` exactly when ``failures`` has an entry for ``i``. ``tokens`` is what the
    provider says it used, else the estimate; ``requests`` is how many were sent: 0 when no text could be.
    """

    vectors: Sequence[Vector | None]
    tokens: int
    requests: int
    failures: Mapping[int, TextFailure] = field(default_factory=dict)


class EmbeddingProvider(Protocol):
    """Makes vectors out of texts; belongs to one event loop and may be called many times at once."""

    @property
    def name(self) -> str:
        """``openai``, ``wordllama``, or another implementation's own."""
        ...

    @property
    def model(self) -> ModelIdentity:
        """Whose vectors these are; raises ``InvalidInput`` when only :meth:`start` can find out.

        The name tells dimensions apart too. A local model's hash covers the bytes that make its vectors; a
        remote one's can only cover its name and dimension, since nobody shows us its weights.
        """
        ...

    @property
    def limits(self) -> ProviderLimits:
        """What one request may carry, and its price."""
        ...

    @property
    def account(self) -> str:
        """Names the allowance that calls draw on, without the key: equal for all workers that share it."""
        ...

    async def start(self) -> None:
        """Load what is slow to load and ask what only the provider knows; a second start is free.

        Raises ``ConfigError`` when the model cannot be had, and what :meth:`embed` raises if it must ask.
        """
        ...

    async def embed(
        self, texts: Sequence[str], *, before_sending: Callable[[], Awaitable[None]] | None = None
    ) -> Embedded:
        """The vectors of ``texts``, by one request at most; starts the provider if nobody has.

        ``before_sending`` is awaited once all is ready but the sending: whoever asks there whether it may be
        sent knows it at the last moment. What it raises goes through, and nothing is sent. Raises
        ``InvalidInput`` when the texts exceed ``limits``, else an
        :class:`~docyard_workers.embed.errors.EmbeddingError`, and then no text has a vector.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` counts against ``limits``: an estimate, cheap enough for every chunk."""
        ...

    async def aclose(self) -> None:
        """Give back connections and memory; a second close is safe, an ``embed`` after it is not."""
        ...
