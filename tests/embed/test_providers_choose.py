from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from docyard_schema.errors import ConfigError
from docyard_workers.embed.providers import EmbeddingConfig, EmbeddingProvider, choose_provider

KEY = {"OPENAI_API_KEY": "sk-secret-key"}
LOCAL = {"OPENAI_BASE_URL": "http://localhost:11434/v1"}


@pytest.mark.parametrize(
    ("settings", "environment", "name"),
    [
        ({}, {}, "wordllama"),
        ({}, {"OPENAI_API_KEY": " "}, "wordllama"),
        ({}, KEY, "openai"),
        ({}, LOCAL, "openai"),
        ({"base_url": "https://example.org/v1"}, {}, "openai"),
        ({"api_key": "sk-1"}, {}, "openai"),
        ({"provider": "wordllama"}, KEY, "wordllama"),
        ({"provider": "openai"}, LOCAL, "openai"),
    ],
)
def test_the_provider_is_said_or_seen(
    settings: dict[str, Any], environment: dict[str, str], name: str
) -> None:
    provider: EmbeddingProvider = choose_provider(EmbeddingConfig(**settings), environment)
    assert provider.name == provider.model.provider == name


@pytest.mark.parametrize(
    ("settings", "environment", "complaint"),
    [
        ({"provider": "openai"}, {}, "OPENAI_API_KEY"),
        ({"provider": "cohere"}, {}, "openai or wordllama"),
        ({"provider": "wordllama", "dimension": 512}, {}, "64, 128 or 256"),
        ({"provider": "wordllama", "model": "text-embedding-3-small"}, KEY, "wordllama-64, "),
        ({"provider": "wordllama", "model": "wordllama-64", "dimension": 256}, {}, "64 dimensions"),
        ({"provider": "wordllama", "base_url": "http://localhost/v1"}, {}, "no base URL"),
        ({"dimension": 0}, {}, "at least 1"),
        ({"dimension": 2000}, KEY, "up to 1536"),
        ({"dimension": 256, "model": "text-embedding-ada-002"}, KEY, "exactly 1536"),
        ({"timeout": timedelta()}, KEY, "above 0"),
        ({"base_url": "localhost:8080"}, KEY, "base URL like"),
        ({"base_url": "http://user:hunter2@:99999/v1"}, KEY, "base URL like"),
        ({"price_per_million_tokens": Decimal(-1)}, KEY, "0 or more"),
        ({"max_texts_per_request": 0}, KEY, "max_texts_per_request of at least 1"),
        ({}, {"OPENAI_API_KEY": "sk-secret\nkey"}, "printable"),
        ({}, {"OPENAI_API_KEY": "sk-secret-ké"}, "printable"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(settings, environment, complaint) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        choose_provider(EmbeddingConfig(**settings), environment)
    assert caught.value.hint
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "dimension", "price"),
    [
        (None, 1536, "0.02"),
        ("text-embedding-3-large", 3072, "0.13"),
        ("text-embedding-ada-002", 1536, "0.10"),
    ],
)
def test_known_models_need_no_questions(model, dimension, price) -> None:
    provider = choose_provider(EmbeddingConfig(model=model), KEY)
    assert provider.model.name == (model or "text-embedding-3-small")
    assert provider.model.dimension == dimension
    assert provider.limits.price_per_million_tokens == Decimal(price)


@pytest.mark.parametrize(
    ("settings", "environment", "name", "dimension"),
    [
        ({}, {}, "wordllama-256", 256),
        ({"dimension": 64}, {}, "wordllama-64", 64),
        ({"model": "wordllama-128"}, {}, "wordllama-128", 128),
        ({"dimension": 256}, KEY, "text-embedding-3-small-256", 256),
        ({"dimension": 1536}, KEY, "text-embedding-3-small", 1536),
        ({"dimension": 384, "model": "own"}, LOCAL, "own", 384),
    ],
)
def test_a_models_name_tells_dimensions_apart(settings, environment, name, dimension) -> None:
    model = choose_provider(EmbeddingConfig(**settings), environment).model
    assert (model.name, model.dimension) == (name, dimension)


def test_limits_and_price_can_be_said() -> None:
    config = EmbeddingConfig(
        model="own", dimension=384, max_texts_per_request=32, price_per_million_tokens=Decimal(1)
    )
    limits = choose_provider(config, LOCAL).limits
    assert (limits.max_texts_per_request, limits.max_tokens_per_request) == (32, 300_000)
    assert limits.price_per_million_tokens == Decimal(1)
    assert choose_provider(EmbeddingConfig(model="own"), LOCAL).limits.price_per_million_tokens is None


def test_spaces_around_a_key_are_no_part_of_it() -> None:
    padded = choose_provider(EmbeddingConfig(), {"OPENAI_API_KEY": "sk-1\n"})
    assert padded.account == choose_provider(EmbeddingConfig(api_key="sk-1"), {}).account
