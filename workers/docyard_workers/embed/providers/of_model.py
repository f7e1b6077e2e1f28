"""The provider of each registered model: made from what the model's row says, with keys from the settings.

Rows never hold a key, and a key goes only to the servers that the settings name: who can write a row cannot
have the key sent to a server of their own.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from docyard_schema.errors import ConfigError, ModelMismatch
from docyard_workers.embed.providers import openai, wordllama
from docyard_workers.embed.providers.choose import PLACEHOLDER_KEY, choose_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docyard_schema.embeddings import EmbeddingModel, ModelIdentity
    from docyard_workers.embed.providers.choose import EmbeddingConfig
    from docyard_workers.embed.providers.protocol import EmbeddingProvider


class Providers:
    """The providers of one process: the one that the settings ask for, and one per other model in use.

    ``configured`` is the former, not yet started; raises ``ConfigError`` when it cannot be made.
    """

    def __init__(self, config: EmbeddingConfig, environment: Mapping[str, str] = os.environ) -> None:
        self.configured: EmbeddingProvider = choose_provider(config, environment)
        self._config = config
        self._environment = environment
        self._made: dict[int, EmbeddingProvider] = {}
        self._making: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def settings(self) -> dict[str, Any]:
        """How ``configured`` is made, as a model's row keeps it."""
        return self._settings(self.configured.name, self._config)

    async def of(self, model: EmbeddingModel) -> EmbeddingProvider:
        """The started provider of a registered model, the same one for every call.

        It is ``configured`` where the settings ask for this very model, so that its server can be moved by
        them. Raises :class:`ModelMismatch`, naming both, when what is there now is another model;
        ``ConfigError``, and what starting raises.
        """
        async with self._making[model.id]:
            if model.id not in self._made:
                self._made[model.id] = await self._make(model)
            return self._made[model.id]

    async def asked(
        self,
        *,
        model: str,
        provider: str | None = None,
        dimension: int | None = None,
        base_url: str | None = None,
    ) -> tuple[ModelIdentity, dict[str, Any]]:
        """The identity and settings of a model that a person names, to be registered.

        ``provider`` of None is seen by the model's name, ``base_url`` of None is that of the settings, else
        the provider's own. The provider is started: raises what :meth:`of` raises.
        """
        made, settings = self.made_for(model=model, provider=provider, dimension=dimension, base_url=base_url)
        try:
            await made.start()
            return made.model, settings
        finally:
            await made.aclose()

    def made_for(
        self,
        *,
        model: str,
        provider: str | None = None,
        dimension: int | None = None,
        base_url: str | None = None,
    ) -> tuple[EmbeddingProvider, dict[str, Any]]:
        """As :meth:`asked`, the provider itself, not started and the caller's to close, and its settings."""
        provider = provider or ("wordllama" if model in wordllama.MODELS else "openai")
        if base_url is None and provider == "openai":
            base_url = self._address(self._config)
        config = self._config_for(provider, {"model": model, "dimension": dimension, "base_url": base_url})
        made = choose_provider(config, self._environment)
        return made, self._settings(made.name, config)

    def made_from(self, model: EmbeddingModel) -> EmbeddingProvider:
        """The provider that a registered model's row describes, not started and the caller's to close."""
        settings = model.settings if "model" in model.settings else _said_by_name(model)
        return choose_provider(self._config_for(model.provider, settings), self._environment)

    def made_anew(self) -> EmbeddingProvider:
        """A provider like ``configured``, not started and the caller's to close."""
        return choose_provider(self._config, self._environment)

    async def aclose(self) -> None:
        """Close them all; a second close is safe."""
        made, self._made = list(self._made.values()), {}
        for provider in {id(one): one for one in [*made, self.configured]}.values():
            await provider.aclose()

    async def _make(self, model: EmbeddingModel) -> EmbeddingProvider:
        if await self._asks_for(model):
            return self.configured
        made = self.made_from(model)
        try:
            await made.start()
            if made.model != model.identity:
                raise ModelMismatch(
                    f"Stored is the model {model.identity.describe()}; its provider now gives "
                    f"{made.model.describe()}. Vectors of two models cannot be compared.",
                    hint="Have the provider give the stored model again, or change models with: docyard "
                    f"migrate reembed --model {made.model.name}",
                    operation="make the provider of a model",
                )
        except BaseException:
            await made.aclose()
            raise
        return made

    async def _asks_for(self, model: EmbeddingModel) -> bool:
        """Whether the settings ask for this model; starts their provider only if nothing else can tell."""
        if self.configured.name != model.provider:
            return False
        asked = self.settings
        if "model" in model.settings and asked["model"] != model.settings.get("model"):
            return False
        await self.configured.start()
        return self.configured.model == model.identity

    def _settings(self, provider: str, config: EmbeddingConfig) -> dict[str, Any]:
        if provider == "wordllama":
            named = wordllama.MODELS.get(config.model or "")
            dimension = config.dimension or named or wordllama.DEFAULT_DIMENSION
            return {"model": f"wordllama-{dimension}", "dimension": None, "base_url": None}
        base_url = self._address(config)
        return {
            "model": config.model or openai.DEFAULT_MODEL,
            "dimension": config.dimension,
            "base_url": None if base_url is None else _without_secrets(base_url),
        }

    def _config_for(self, provider: str, settings: Mapping[str, Any]) -> EmbeddingConfig:
        """What the process's settings say of limits and time, and the model's of everything else."""
        config = replace(
            self._config,
            provider=provider,  # type: ignore[arg-type]  # choose_provider refuses others
            model=settings.get("model"),
            dimension=settings.get("dimension"),
            base_url=None,
            api_key=None,
            organization=None,
            project=None,
            headers={},
            price_per_million_tokens=None,
        )
        if provider != "openai":
            return config
        # Said in full, or the environment's own address would be taken.
        config = replace(config, base_url=settings.get("base_url") or openai.DEFAULT_BASE_URL)
        host = _host(config.base_url)
        key = self._key_for(host)
        if key is None and host == _host(None):
            raise ConfigError(
                f"expected a key for {host}, where the model {config.model} is, got none",
                hint=f"Set OPENAI_API_KEY, or beside another key: DOCYARD_EMBEDDING_API_KEYS='{host}=KEY'.",
                operation="make the provider of a model",
            )
        config = replace(config, api_key=key or PLACEHOLDER_KEY)
        if host != _host(self._address(self._config)):
            return config
        mine = self._config
        return replace(config, organization=mine.organization, project=mine.project, headers=mine.headers)

    def _key_for(self, host: str) -> str | None:
        """The key of a server: its own, or that of the settings or the environment if they are for it."""
        own = self._config.api_keys.get(host)
        if own is not None:
            return own
        configured, environment = self._address(self._config), self._environment.get("OPENAI_BASE_URL")
        if host == _host(configured) and self._config.api_key:
            return self._config.api_key
        if host in (_host(configured), _host(environment)):
            return self._environment.get("OPENAI_API_KEY", "").strip() or None
        return None

    def _address(self, config: EmbeddingConfig) -> str | None:
        """Where a provider of these settings is; None is OpenAI's own address."""
        return config.base_url or self._environment.get("OPENAI_BASE_URL", "").strip() or None


def _said_by_name(model: EmbeddingModel) -> dict[str, Any]:
    """How a model is made that was registered before rows said so."""
    raw = model.name.removesuffix(f"-{model.dimension}")
    if raw in openai.KNOWN_MODELS and raw != model.name:
        return {"model": raw, "dimension": model.dimension}
    return {"model": model.name}


def _host(base_url: str | None) -> str:
    return urlsplit((base_url or "").strip() or openai.DEFAULT_BASE_URL).hostname or ""


def _without_secrets(base_url: str) -> str:
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
