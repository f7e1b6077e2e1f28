"""The errors of asking a provider for vectors.

Every one is an :class:`EmbeddingError`::

    EmbeddingError                   (a DocyardError)
    ├── ProviderUnavailable          5xx, time limit, no connection: try again            retryable
    ├── RateLimited                  429: nothing to this account before ``retry_after``  retryable
    ├── ProviderAnswerInvalid        malformed, truncated, or not what was asked for      retryable
    │   └── WrongDimension           vectors of another length than the model's           permanent
    ├── QuotaExhausted               the account is out of money: a person must act       permanent
    ├── ProviderRefused              401, 403: the key or a request setting               permanent
    ├── ModelNotFound                404 (also a ConfigError): the model or the address   permanent
    └── TextRefused                  400, 413, 422: something in this request             permanent

Only :class:`TextRefused` speaks about texts, and it speaks about a whole request: send half of it to find
out which. What can be seen without asking (an empty text, an over-long one) or in an answer (a zero vector)
is no error but a :class:`~docyard_workers.embed.providers.TextFailure` beside the other texts' vectors.

No message holds a key, and none holds the text of a document: the provider's words are cut to 300
characters and what they quote of the request is masked. Errors are raised outside the block that caught the
client's own, so no traceback carries those either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docyard_schema.errors import ConfigError, DocyardError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "EmbeddingError",
    "ModelNotFound",
    "ProviderAnswerInvalid",
    "ProviderRefused",
    "ProviderUnavailable",
    "QuotaExhausted",
    "RateLimited",
    "TextRefused",
    "WrongDimension",
]


class EmbeddingError(DocyardError):
    """Vectors were asked for and did not come.

    ``provider`` and ``model`` name who was asked; ``status`` is the HTTP status, ``None`` when no answer
    came; ``provider_code`` is the provider's own word for it; ``retry_after`` is how long the provider asked
    to be left alone, ``None`` when it did not say.
    """

    code = "embedding"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        operation: str = "embed",
        provider: str = "",
        model: str = "",
        status: int | None = None,
        provider_code: str | None = None,
        retry_after: timedelta | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, hint=hint, operation=operation, **details)
        self.provider = provider
        self.model = model
        self.status = status
        self.provider_code = provider_code
        self.retry_after = retry_after


class ProviderUnavailable(EmbeddingError):
    """The provider could not be reached in time, or failed by its own fault."""

    code = "provider_unavailable"
    retryable = True


class RateLimited(EmbeddingError):
    """The account sends too much: wait for ``retry_after``, everywhere the account is used."""

    code = "rate_limited"
    retryable = True


class ProviderAnswerInvalid(EmbeddingError):
    """An answer came that cannot be read, or that does not answer what was asked."""

    code = "provider_answer_invalid"
    retryable = True


class WrongDimension(ProviderAnswerInvalid):
    """Vectors came with another dimension than the model's: ``details`` has ``expected`` and ``received``."""

    code = "wrong_dimension"
    retryable = False


class QuotaExhausted(EmbeddingError):
    """The account has no quota or money left; no text is at fault, and waiting alone does not help."""

    code = "quota_exhausted"


class ProviderRefused(EmbeddingError):
    """The provider rejects the key, or a setting that goes with every request; no text is at fault."""

    code = "provider_refused"


class ModelNotFound(EmbeddingError, ConfigError):
    """The provider does not know the model, or the address is not the API's."""

    code = "model_not_found"


class TextRefused(EmbeddingError):
    """The provider rejects a request for what it carries; ``details["texts"]`` is how many it carried."""

    code = "text_refused"
