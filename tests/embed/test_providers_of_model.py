"""Each registered model has a provider of its own, made from its row; keys come from the settings alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from docyard_schema import ConfigError, EmbeddingModel, ModelIdentity, ModelMismatch
from docyard_workers.embed.providers import EmbeddingConfig, Providers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.embedding_server import EmbeddingServer


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Providers]]:
    """Makes providers with these settings, in this environment; closes them at the end."""
    made: list[Providers] = []

    def build(environment: dict[str, str] | None = None, **settings: Any) -> Providers:
        made.append(Providers(EmbeddingConfig(**settings), environment or {}))
        return made[-1]

    yield build
    for one in made:
        await one.aclose()


def row(identity: ModelIdentity, settings: dict[str, Any] | None = None, number: int = 1) -> EmbeddingModel:
    return EmbeddingModel(
        id=number,
        name=identity.name,
        provider=identity.provider,
        dimension=identity.dimension,
        hash=identity.hash,
        state="building",
        created_at=datetime.now(UTC),
        activated_at=None,
        retired_at=None,
        settings=settings or {},
    )


async def test_the_model_that_the_settings_ask_for_has_their_provider(make: Any) -> None:
    providers: Providers = make(provider="wordllama")
    await providers.configured.start()
    model = row(providers.configured.model, providers.settings)
    assert await providers.of(model) is providers.configured
    assert await providers.of(row(model.identity)) is providers.configured, "rows of before say nothing"


async def test_another_model_has_a_provider_of_its_own_started_and_the_same_for_every_call(
    make: Any,
) -> None:
    small: Providers = make(provider="wordllama", dimension=64)
    await small.configured.start()
    model = row(small.configured.model, small.settings)
    providers: Providers = make(provider="wordllama")
    first, again = await asyncio.gather(providers.of(model), providers.of(model))
    assert first is again is not providers.configured
    assert first.model == model.identity
    assert len((await first.embed(["whistle"])).vectors[0] or []) == 64


async def test_rows_of_before_are_made_by_their_names(make: Any) -> None:
    small: Providers = make(provider="wordllama", dimension=64)
    await small.configured.start()
    found = await make(provider="wordllama").of(row(small.configured.model))
    assert found.model == small.configured.model
    shortened: Providers = make(api_key="k", dimension=64)
    found = await make(api_key="k").of(row(shortened.configured.model))
    assert found.model == shortened.configured.model
    assert found.model.name == "text-embedding-3-small-64"


async def test_a_row_of_another_server_is_asked_there_with_the_dimension_it_says(
    make: Any, embedding_server: EmbeddingServer
) -> None:
    embedding_server.dimension = 16
    other: Providers = make(base_url=embedding_server.url, model="own", dimension=16)
    settings = other.settings
    assert settings == {"model": "own", "dimension": 16, "base_url": embedding_server.url}
    providers: Providers = make(provider="wordllama")
    provider = await providers.of(row(other.configured.model, settings))
    assert len((await provider.embed(["whistle"])).vectors[0] or []) == 16
    assert embedding_server.last_request["model"] == "own"
    assert embedding_server.last_request["dimensions"] == 16


async def test_what_is_no_longer_the_stored_model_is_refused_naming_both(
    make: Any, embedding_server: EmbeddingServer
) -> None:
    embedding_server.dimension = 32
    stored = ModelIdentity(name="own", provider="openai", dimension=16, hash="ab" * 32)
    settings = {"model": "own", "dimension": None, "base_url": embedding_server.url}
    providers: Providers = make(provider="wordllama")
    with pytest.raises(ModelMismatch) as caught:
        await providers.of(row(stored, settings))
    assert stored.describe() in caught.value.message
    assert "32 dimensions" in caught.value.message
    assert "docyard migrate reembed --model own" in caught.value.hint
    embedding_server.dimension = 16
    with pytest.raises(ModelMismatch):
        await providers.of(row(stored, settings))


async def test_a_server_that_the_settings_moved_is_asked_at_its_new_address(
    make: Any, embedding_server: EmbeddingServer
) -> None:
    embedding_server.dimension = 16
    providers: Providers = make(base_url=embedding_server.url, model="own", dimension=16)
    moved = {"model": "own", "dimension": 16, "base_url": "http://127.0.0.1:1/v1"}
    provider = await providers.of(row(providers.configured.model, moved))
    assert provider is providers.configured
    assert (await provider.embed(["whistle"])).requests == 1


@pytest.mark.parametrize(
    ("settings", "environment", "sent"),
    [
        ({"api_key": "sk-mine"}, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "Bearer sk-mine"),
        ({}, {"OPENAI_API_KEY": "sk-e", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "Bearer sk-e"),
        ({"api_key": "sk-openai"}, {}, "Bearer none"),
        ({}, {"OPENAI_API_KEY": "sk-openai"}, "Bearer none"),
        ({"api_keys": {"127.0.0.1": "sk-host"}}, {"OPENAI_API_KEY": "sk-openai"}, "Bearer sk-host"),
        ({"provider": "wordllama"}, {"OPENAI_API_KEY": "sk-openai"}, "Bearer none"),
    ],
)
async def test_a_key_goes_to_no_server_but_its_own(
    make: Any,
    embedding_server: EmbeddingServer,
    settings: dict[str, Any],
    environment: dict[str, str],
    sent: str,
) -> None:
    embedding_server.dimension = 16
    other: Providers = make(base_url=embedding_server.url, model="own", dimension=16)
    provider = await make(environment, **settings).of(row(other.configured.model, other.settings))
    await provider.embed(["whistle"])
    assert embedding_server.last_headers["authorization"] == sent


async def test_a_model_at_openai_needs_a_key_for_openai(make: Any) -> None:
    at_openai: Providers = make(api_key="sk-1")
    model = row(at_openai.configured.model, at_openai.settings)
    elsewhere: Providers = make(
        {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
        base_url="http://127.0.0.1:9/v1",
        model="own",
        dimension=4,
    )
    with pytest.raises(ConfigError, match=r"expected a key for api\.openai\.com") as caught:
        await elsewhere.of(model)
    assert "DOCYARD_EMBEDDING_API_KEYS='api.openai.com=KEY'" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({"provider": "wordllama"}, {}, {"model": "wordllama-256", "dimension": None, "base_url": None}),
        ({"model": "wordllama-64"}, {}, {"model": "wordllama-64", "dimension": None, "base_url": None}),
        ({"api_key": "k"}, {}, {"model": "text-embedding-3-small", "dimension": None, "base_url": None}),
        (
            {"model": "m", "dimension": 7},
            {"OPENAI_BASE_URL": "http://user:secret@host:8/v1?key=secret"},
            {"model": "m", "dimension": 7, "base_url": "http://host:8/v1"},
        ),
    ],
)
def test_settings_say_how_a_provider_is_made_and_hold_no_secret(
    settings: dict[str, Any], environment: dict[str, str], expected: dict[str, Any]
) -> None:
    assert Providers(EmbeddingConfig(**settings), environment).settings == expected


async def test_a_model_that_a_person_names_is_asked_what_it_is(
    make: Any, embedding_server: EmbeddingServer
) -> None:
    embedding_server.dimension = 24
    providers: Providers = make(provider="wordllama")
    identity, settings = await providers.asked(model="own", base_url=embedding_server.url)
    assert (identity.name, identity.provider, identity.dimension) == ("own", "openai", 24)
    assert settings == {"model": "own", "dimension": None, "base_url": embedding_server.url}
    provider = await providers.of(row(identity, settings))
    assert provider.model == identity
    identity, settings = await providers.asked(model="wordllama-128")
    assert (identity.name, identity.provider, identity.dimension) == ("wordllama-128", "wordllama", 128)
    assert settings["model"] == "wordllama-128"
    with pytest.raises(ConfigError):
        await providers.asked(model="nothing", provider="nobody")


async def test_closing_closes_them_all_and_twice_is_safe(make: Any) -> None:
    small: Providers = make(provider="wordllama", dimension=64)
    await small.configured.start()
    providers: Providers = make(provider="wordllama")
    other = await providers.of(row(small.configured.model, small.settings))
    await providers.aclose()
    await providers.aclose()
    for one in (other, providers.configured):
        with pytest.raises(Exception, match="closed"):
            await one.embed(["whistle"])
