"""What the client library raised, said as one of our errors.

Sources: OpenAI's error codes guide and rate limits guide; RFC 9110 §10.2.3 for ``Retry-After``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from docyard_workers.embed.errors import (
    EmbeddingError,
    ModelNotFound,
    ProviderAnswerInvalid,
    ProviderRefused,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    TextRefused,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import openai

WORDS_LIMIT = 300
_MASK = "[…]"
_SHORTEST_MASKED = 8  # a key or a text shorter than this would blot out ordinary words
_QUOTE = 24  # a run of this many characters that also stands in a text is taken for a quotation of it

_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_RATE_CODES = frozenset({"rate_limit_exceeded", "requests", "tokens", "RateLimitReached", "429"})
_MODEL_CODES = frozenset({"model_not_found", "invalid_model", "DeploymentNotFound"})
_SETTING_PARAMETERS = frozenset({"model", "dimensions", "encoding_format", "user"})
_TEXT_STATUSES = frozenset({400, 413, 422})
_PASSING_STATUSES = frozenset({408, 409, 425})

_KEY_HINT = "Check OPENAI_API_KEY, its project and organisation, and what the key is allowed to do."
_MODEL_HINT = "Check the model's name and the base URL: it ends in /v1 for most servers."
_SETTING_HINT = (
    "Check the embedding settings: model, dimension, base URL. Not every server takes a dimension."
)
_QUOTA_HINT = "Add credit or raise the limit with the provider, then resume the queue."


def translate(
    error: openai.APIError, *, provider: str, model: str, texts: Sequence[str], secrets: Iterable[str]
) -> EmbeddingError:
    """The error to raise for what the client raised; it holds no secret, and no text that was sent."""
    import openai

    about: dict[str, Any] = {"provider": provider, "model": model}
    if isinstance(error, openai.APITimeoutError):
        return ProviderUnavailable("expected an answer within the time limit, got none", **about)
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "no reason given"
        return ProviderUnavailable(
            f"expected an answer, got none: the connection failed ({cause})",
            hint="Check the base URL and the network.",
            **about,
        )
    if not isinstance(error, openai.APIStatusError):
        return ProviderAnswerInvalid(
            f"expected an answer, got one that the client cannot read ({type(error).__name__})", **about
        )
    words = mask(provider_words(error.body), texts, secrets)
    about |= {
        "status": error.status_code,
        "provider_code": mask(str(error.code), texts, secrets) if error.code else None,
        "retry_after": retry_after(error.response.headers),
    }
    return _from_status(error, f"the provider answered {error.status_code}: {words}", len(texts), about)


def rate_limited(error: openai.RateLimitError, *, provider: str, model: str) -> RateLimited | None:
    """A 429 without the provider's words, which takes no time; None if it is about money."""
    if error.code in _QUOTA_CODES or error.type in _QUOTA_CODES:
        return None
    code = error.code if error.code in _RATE_CODES else None
    return RateLimited(
        f"the provider answered 429: {code or 'too many requests'}",
        provider=provider,
        model=model,
        status=error.status_code,
        provider_code=code,
        retry_after=retry_after(error.response.headers),
    )


def _from_status(
    error: openai.APIStatusError, message: str, texts: int, about: dict[str, Any]
) -> EmbeddingError:
    status = error.status_code
    if status == 402 or error.code in _QUOTA_CODES or error.type in _QUOTA_CODES:
        return QuotaExhausted(message, hint=_QUOTA_HINT, **about)
    if status == 404 or error.code in _MODEL_CODES:
        return ModelNotFound(message, hint=_MODEL_HINT, **about)
    if status >= 500 or status in _PASSING_STATUSES:
        return ProviderUnavailable(message, **about)
    if status in (401, 403):
        return ProviderRefused(message, hint=_KEY_HINT, **about)
    if status in _TEXT_STATUSES and error.param not in _SETTING_PARAMETERS:
        return TextRefused(message, texts=texts, **about)
    return ProviderRefused(message, hint=_SETTING_HINT, **about)


def provider_words(body: object) -> str:
    """The sentence for people in an error's body, in one line; never the body, which may quote the input.

    Knows OpenAI's ``message``, FastAPI's ``detail`` (a sentence, or a list of ``msg``) and plain text.
    """
    words: object = body
    if isinstance(body, dict):
        words = body.get("message") or body.get("detail") or body.get("error")
        if isinstance(words, list):
            words = "; ".join(str(part["msg"]) for part in words if isinstance(part, dict) and "msg" in part)
    if not isinstance(words, str) or not words.strip() or words.lstrip().startswith("<"):
        return "no words that can be shown"
    return " ".join(words.split())


def mask(words: str, texts: Sequence[str], secrets: Iterable[str]) -> str:
    """``words`` cut to 300 characters, without secrets and without what they quote of ``texts``.

    Cut after the secrets are gone, so that no half of one stays. Costs up to 280 searches through the texts.
    """
    for secret in secrets:
        if len(secret) >= _SHORTEST_MASKED:
            words = words.replace(secret, _MASK)
    if len(words) > WORDS_LIMIT:
        words = words[: WORDS_LIMIT - 1] + "…"
    for text in texts:
        if len(text) >= _SHORTEST_MASKED:
            words = words.replace(text, _MASK)
    haystack = "\n".join(" ".join(text.split()) for text in texts)
    quoted = [False] * len(words)
    for start in range(len(words) - _QUOTE + 1):
        if words[start : start + _QUOTE] in haystack:
            quoted[start : start + _QUOTE] = [True] * _QUOTE
    shown: list[str] = []
    for character, hidden in zip(words, quoted, strict=True):
        if not hidden:
            shown.append(character)
        elif not shown or shown[-1] != _MASK:
            shown.append(_MASK)
    return "".join(shown)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long to leave the provider alone: ``retry-after-ms``, or ``Retry-After``, in seconds or a date."""
    for header, unit in (
        ("retry-after-ms", timedelta(milliseconds=1)),
        ("retry-after", timedelta(seconds=1)),
    ):
        try:
            count = float(headers.get(header, ""))
        except ValueError:
            continue
        if math.isfinite(count) and count < 1e9:
            return max(timedelta(), count * unit)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if moment.tzinfo is None:  # RFC 9110: a date is in GMT, said or not
        moment = moment.replace(tzinfo=UTC)
    return max(timedelta(), moment - datetime.now(UTC))
