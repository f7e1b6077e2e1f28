"""Vectors from OpenAI, or from any server that speaks its ``/v1/embeddings``.

The client library is imported when the provider starts, in a thread: that takes half a second and 50 MB.
It never retries here; trying again is a job's business, which all workers can see.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from docyard_schema.embeddings import ModelIdentity
from docyard_schema.errors import InvalidInput
from docyard_workers.embed.errors import EmbeddingError, ProviderAnswerInvalid, ProviderUnavailable
from docyard_workers.embed.providers.answers import read_answer, require_dimension, vector_failure
from docyard_workers.embed.providers.protocol import Embedded
from docyard_workers.embed.providers.refusals import rate_limited, translate
from docyard_workers.embed.providers.screening import estimate_tokens, screen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import timedelta

    from openai import APIError, AsyncOpenAI

    from docyard_workers.embed.providers.protocol import ProviderLimits, TextFailure, Vector

DEFAULT_MODEL = "text-embedding-3-small"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
_PROBE = "docyard"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What need not be asked about a model: ``shortens`` says whether it can give fewer dimensions."""

    dimension: int
    shortens: bool
    price_per_million_tokens: Decimal


KNOWN_MODELS = {
    "text-embedding-3-small": KnownModel(
        dimension=1536, shortens=True, price_per_million_tokens=Decimal("0.02")
    ),
    "text-embedding-3-large": KnownModel(
        dimension=3072, shortens=True, price_per_million_tokens=Decimal("0.13")
    ),
    "text-embedding-ada-002": KnownModel(
        dimension=1536, shortens=False, price_per_million_tokens=Decimal("0.10")
    ),
}


class _NotSent(Exception):
    """Carries what a caller's ``before_sending`` raised through the client, which wraps what it does not
    know.
    """

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


# Of the call that a request belongs to: the client's hooks know only the request.
_before_sending: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("before_sending", default=None)


async def _about_to_send(_: object) -> None:
    """Called by the client with a request that is ready to be sent."""
    before_sending = _before_sending.get()
    if before_sending is not None:
        try:
            await before_sending()
        except Exception as error:
            raise _NotSent(error) from error


class OpenAIProvider:
    """An :class:`~docyard_workers.embed.providers.protocol.EmbeddingProvider` over HTTP.

    ``dimension`` is sent with every request when given, else not at all, since not every server takes it; a
    model that is neither configured with one nor known is asked for one vector at start. ``base_url``,
    ``organization`` and ``project`` of ``None`` leave them to the client, which reads its environment.
    ``timeout`` holds for a whole request, body included.
    """

    name = "openai"

    def __init__(
        self,
        *,
        model: str,
        limits: ProviderLimits,
        timeout: timedelta,
        api_key: str,
        dimension: int | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = limits
        self._model_name = model
        self._sent_dimension = dimension
        self._timeout = timeout
        self._api_key = api_key
        self._base_url = base_url
        self._organization = organization
        self._project = project
        self._headers = dict(headers or {})
        known = KNOWN_MODELS.get(model)
        self._dimension = dimension or (known.dimension if known else None)
        self._client: AsyncOpenAI | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"OpenAIProvider(model={self._model_name!r}, account={self.account!r})"

    @property
    def model(self) -> ModelIdentity:
        """The hash covers name and dimension: the same name on another server counts as the same model.

        A known model that is asked for fewer dimensions than its own has them behind its name, so that both
        can be registered: ``text-embedding-3-small-256``.
        """
        if self._dimension is None:
            raise InvalidInput(
                f"expected the dimension of {self._model_name}, which is unknown before the start",
                hint="Await start(), or configure the dimension.",
                operation="describe the embedding model",
            )
        identity = f"openai:{self._model_name}:{self._dimension}"
        known = KNOWN_MODELS.get(self._model_name)
        shortened = known is not None and self._dimension != known.dimension
        return ModelIdentity(
            name=f"{self._model_name}-{self._dimension}" if shortened else self._model_name,
            provider=self.name,
            dimension=self._dimension,
            hash=hashlib.sha256(identity.encode()).hexdigest(),
        )

    @property
    def account(self) -> str:
        """``openai:HOST:`` and 8 digits of the key's sha256, which tell keys apart and reveal none."""
        host = urlsplit(self._base_url or DEFAULT_BASE_URL).netloc.rpartition("@")[2]
        return f"openai:{host}:{hashlib.sha256(self._api_key.encode()).hexdigest()[:8]}"

    def count_tokens(self, text: str) -> int:
        """UTF-8 bytes / 4, rounded up."""
        return estimate_tokens(text)

    async def start(self) -> None:
        """Import the client; if the dimension is unknown, ask for one vector (a request of 2 tokens)."""
        async with self._starting:
            if self._closed:
                raise InvalidInput("expected an open embedding provider, got a closed one", operation="embed")
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            if self._dimension is None:
                vectors, _ = await self._request(self._client, [_PROBE])
                self._dimension = len(vectors[0])

    async def embed(
        self, texts: Sequence[str], *, before_sending: Callable[[], Awaitable[None]] | None = None
    ) -> Embedded:
        """The vectors of ``texts`` by one request, or by none if no text can be sent."""
        sendable, estimate, failures = screen(texts, self.limits)
        vectors: list[Vector | None] = [None] * len(texts)
        if not sendable:
            return Embedded(vectors=vectors, tokens=0, requests=0, failures=failures)
        await self.start()
        assert self._client is not None  # noqa: S101 - start() has just seen to it
        _before_sending.set(before_sending)
        answered, tokens = await self._request(self._client, [texts[index] for index in sendable])
        checked = await asyncio.to_thread(self._check, answered)
        for index, vector, failure in zip(sendable, answered, checked, strict=True):
            if failure is None:
                vectors[index] = vector
            else:
                failures[index] = failure
        return Embedded(
            vectors=vectors, tokens=estimate if tokens is None else tokens, requests=1, failures=failures
        )

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connect(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        return AsyncOpenAI(
            http_client=DefaultAsyncHttpxClient(event_hooks={"request": [_about_to_send]}),
            api_key=self._api_key,
            base_url=self._base_url,
            organization=self._organization,
            project=self._project,
            default_headers=self._headers,
            timeout=self._timeout.total_seconds(),
            max_retries=0,
        )

    async def _request(self, client: AsyncOpenAI, texts: list[str]) -> tuple[list[Vector], int | None]:
        """Send one request; what fails is raised outside the ``except``, so nothing secret hangs on to it."""
        from openai import APIError, RateLimitError, omit

        failure: EmbeddingError
        dimensions = omit if self._sent_dimension is None else self._sent_dimension
        try:
            # The client's own limit restarts with every byte received; this one does not.
            async with asyncio.timeout(self._timeout.total_seconds()):
                response = await client.embeddings.with_raw_response.create(
                    model=self._model_name, input=texts, dimensions=dimensions
                )
            return await asyncio.to_thread(read_answer, response.content, len(texts))
        except TimeoutError:
            failure = ProviderUnavailable(
                f"expected an answer within {self._timeout.total_seconds():g} s, got none",
                provider=self.name,
                model=self._model_name,
            )
        except ProviderAnswerInvalid as error:
            error.provider, error.model = self.name, self._model_name
            failure = error
        except RateLimitError as error:
            # At once: the next request may be about to leave. Its words would have to be compared with the
            # texts.
            failure = rate_limited(
                error, provider=self.name, model=self._model_name
            ) or await self._translated(error, texts)
        except _NotSent as error:
            raise error.reason from None
        except APIError as error:
            if isinstance(error.__cause__, _NotSent):
                raise error.__cause__.reason from None
            failure = await self._translated(error, texts)
        raise failure

    async def _translated(self, error: APIError, texts: list[str]) -> EmbeddingError:
        return await asyncio.to_thread(  # looks for quotations in all the texts: up to 0.1 s
            translate,
            error,
            provider=self.name,
            model=self._model_name,
            texts=texts,
            secrets=(self._api_key, *self._headers.values()),
        )

    def _check(self, vectors: list[Vector]) -> list[TextFailure | None]:
        require_dimension(vectors, self.model.dimension, self._model_name)
        return [vector_failure(vector) for vector in vectors]
