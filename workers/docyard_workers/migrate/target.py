"""The model that a reembed is to bring: from its row, from the settings, or from what the caller said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docyard_schema import ModelRepository
from docyard_schema.errors import ConfigError, InvalidInput
from docyard_workers.embed.errors import ProviderAnswerInvalid

if TYPE_CHECKING:
    from docyard_schema import Database, ModelIdentity
    from docyard_workers.embed.providers import EmbeddingProvider, Providers

_PROBE = "docyard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The model that somebody asked for: the provider's name of it or a registered one. None: not said."""

    model: str
    provider: str | None = None
    dimension: int | None = None
    base_url: str | None = None

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise InvalidInput("A model's name cannot be empty.", hint="For example: text-embedding-3-large")
        if self.provider not in (None, "openai", "wordllama"):
            raise ConfigError(
                f"The provider is openai or wordllama, got {self.provider!r}.", operation="reembed"
            )

    @property
    def is_name_alone(self) -> bool:
        """Whether nothing but a name was said."""
        return self.provider is None and self.dimension is None and self.base_url is None


async def target_provider(
    database: Database, providers: Providers, target: Target
) -> tuple[EmbeddingProvider, dict[str, Any]]:
    """The target's provider, not started and the caller's to close, and how it is made.

    A name alone is looked for among the registered models, then in the settings: there it is the model that
    they ask for, with the dimension that they say. Raises :class:`ConfigError`.
    """
    if target.is_name_alone:
        known = await ModelRepository(database).get(target.model)
        if known is not None:
            return providers.made_from(known), known.settings
        if target.model in (providers.settings["model"], _configured_name(providers)):
            return providers.made_anew(), providers.settings
    return providers.made_for(
        model=target.model,
        provider=target.provider,
        dimension=target.dimension,
        base_url=target.base_url,
    )


async def prove(provider: EmbeddingProvider) -> ModelIdentity:
    """Embed one short text: so the provider is there, takes the key, and makes vectors of its dimension.

    Raises what the provider raises, before anything was enqueued for it.
    """
    await provider.start()
    answer = await provider.embed([_PROBE])
    if answer.vectors[0] is None:
        raise ProviderAnswerInvalid(
            f"expected a vector of {provider.model.name} for a probe text, got {answer.failures[0].message}",
            hint="Ask the provider's operator; nothing was registered.",
            operation="reembed",
            provider=provider.name,
            model=provider.model.name,
        )
    return provider.model


def _configured_name(providers: Providers) -> str | None:
    try:
        return providers.configured.model.name
    except InvalidInput:
        return None  # known once it is started
