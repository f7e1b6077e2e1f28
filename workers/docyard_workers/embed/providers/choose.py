"""Which provider makes the vectors: said in the settings, else seen in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from docyard_schema.errors import ConfigError
from docyard_workers.embed.providers import openai, wordllama
from docyard_workers.embed.providers.protocol import ProviderLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_workers.embed.providers.protocol import EmbeddingProvider

PLACEHOLDER_KEY = "none"  # the client insists on a key; most local servers want none


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingConfig:
    """How to embed; ``None`` is always "not said".

    - ``provider``: not said: ``openai`` if a key or a base URL is given, here or by ``OPENAI_API_KEY`` or
      ``OPENAI_BASE_URL``; else ``wordllama``.
    - ``model``: not said: ``text-embedding-3-small``, or ``wordllama-256``.
    - ``dimension``: not said: the model's own, and none is sent.
    - ``base_url``, ``api_key``, ``organization``, ``project``: not said: ``OPENAI_BASE_URL``,
      ``OPENAI_API_KEY``, ``OPENAI_ORG_ID``, ``OPENAI_PROJECT_ID``.
    - ``api_keys``: keys by host, for registered models at other servers than ``base_url``.
    - ``headers``: sent with every request, Azure's ``api-key`` for one.
    - ``timeout``: of one whole request.
    - ``price_per_million_tokens``: in US dollars; not said: the known models' own, else unknown.
    - ``max_…``: what one request may carry; not said: OpenAI's limits. Some local servers take 32 texts.
    - ``parallel_requests``: how many one process sends at once; not said: 4.
    """

    provider: Literal["openai", "wordllama"] | None = None
    model: str | None = None
    dimension: int | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: timedelta = timedelta(seconds=30)
    price_per_million_tokens: Decimal | None = None
    max_tokens_per_text: int | None = None
    max_texts_per_request: int | None = None
    max_tokens_per_request: int | None = None
    parallel_requests: int | None = None


def choose_provider(
    config: EmbeddingConfig, environment: Mapping[str, str] = os.environ
) -> EmbeddingProvider:
    """The provider that ``config`` and ``environment`` ask for, not yet started; raises ``ConfigError``."""
    if config.timeout <= timedelta():
        raise _wrong("a timeout above 0 s", f"{config.timeout.total_seconds():g} s", "Leave it out for 30 s.")
    if config.dimension is not None and config.dimension < 1:
        raise _wrong("a dimension of at least 1", str(config.dimension), "Leave it out for the model's own.")
    provider = config.provider or _seen(config, environment)
    if provider == "wordllama":
        return _wordllama(config)
    if provider == "openai":
        return _openai(config, environment)
    raise _wrong(
        "the provider openai or wordllama", repr(provider), "Leave it out to choose by OPENAI_API_KEY."
    )


def _seen(config: EmbeddingConfig, environment: Mapping[str, str]) -> str:
    signs = (
        config.api_key,
        config.base_url,
        environment.get("OPENAI_API_KEY"),
        environment.get("OPENAI_BASE_URL"),
    )
    return "openai" if any(sign and sign.strip() for sign in signs) else "wordllama"


def _wordllama(config: EmbeddingConfig) -> EmbeddingProvider:
    if config.model is not None and config.model not in wordllama.MODELS:
        raise _wrong(
            f"one of the models {', '.join(wordllama.MODELS)}",
            repr(config.model),
            "Leave the model out, or set OPENAI_API_KEY or a base URL for a model of that name.",
        )
    if config.base_url is not None or config.api_key is not None:
        raise _wrong("no base URL and no key with wordllama", "one", "Remove it, or use the provider openai.")
    named = wordllama.MODELS[config.model] if config.model else None
    dimension = config.dimension or named or wordllama.DEFAULT_DIMENSION
    if dimension not in wordllama.MODELS.values():
        raise _wrong("64, 128 or 256 dimensions with wordllama", str(dimension), "Leave it out for 256.")
    if named not in (None, dimension):
        raise _wrong(f"{named} dimensions with {config.model}", str(dimension), "Leave one of the two out.")
    return wordllama.WordLlamaProvider(dimension=dimension, limits=_limits(config, Decimal(0)))


def _openai(config: EmbeddingConfig, environment: Mapping[str, str]) -> EmbeddingProvider:
    model = config.model or openai.DEFAULT_MODEL
    base_url = config.base_url or environment.get("OPENAI_BASE_URL", "").strip() or None
    if base_url is not None:
        _require_web_address(base_url)
    known = openai.KNOWN_MODELS.get(model)
    dimension = config.dimension
    if known is not None and dimension is not None:
        if dimension > known.dimension or (dimension < known.dimension and not known.shortens):
            most = f"up to {known.dimension}" if known.shortens else f"exactly {known.dimension}"
            raise _wrong(
                f"{most} dimensions with {model}",
                str(dimension),
                "Leave the dimension out, or change the model.",
            )
        if not known.shortens:
            dimension = None  # such a model refuses to be told, even its own
    return openai.OpenAIProvider(
        model=model,
        limits=_limits(config, known.price_per_million_tokens if known else None),
        timeout=config.timeout,
        api_key=_key(config, environment, base_url),
        dimension=dimension,
        base_url=base_url,
        organization=config.organization or environment.get("OPENAI_ORG_ID") or None,
        project=config.project or environment.get("OPENAI_PROJECT_ID") or None,
        headers=config.headers,
    )


def _key(config: EmbeddingConfig, environment: Mapping[str, str], base_url: str | None) -> str:
    key = (
        config.api_key or environment.get("OPENAI_API_KEY", "")
    ).strip()  # a file's last newline is no part of it
    if not key and base_url is None:
        raise _wrong(
            "a key for the provider openai",
            "none",
            "Set OPENAI_API_KEY, or the base URL of a server without.",
        )
    if any(not "!" <= character <= "~" for character in key):
        raise _wrong("a key of printable ASCII characters", "one with others", "Set OPENAI_API_KEY anew.")
    return key or PLACEHOLDER_KEY


def _require_web_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        usable = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        # The address itself may hold a password and is not repeated.
        raise _wrong("a base URL like http://localhost:11434/v1", "another thing", "Check OPENAI_BASE_URL.")


def _limits(config: EmbeddingConfig, price: Decimal | None) -> ProviderLimits:
    limits = ProviderLimits(price_per_million_tokens=price)
    if config.price_per_million_tokens is not None:
        if config.price_per_million_tokens < 0:
            raise _wrong(
                "a price of 0 or more", str(config.price_per_million_tokens), "Leave it out if unknown."
            )
        limits = replace(limits, price_per_million_tokens=config.price_per_million_tokens)
    for name in (
        "max_tokens_per_text",
        "max_texts_per_request",
        "max_tokens_per_request",
        "parallel_requests",
    ):
        value = getattr(config, name)
        if value is None:
            continue
        if value < 1:
            raise _wrong(f"{name} of at least 1", str(value), "Leave it out for the provider's own.")
        limits = replace(limits, **{name: value})
    return limits


def _wrong(expected: str, came: str, way_out: str) -> ConfigError:
    return ConfigError(
        f"expected {expected}, got {came}", hint=way_out, operation="choose an embedding provider"
    )
