"""Begins a reembed: proves that the model can be had, registers it, and plans the work or joins it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from docyard_schema import ModelRepository
from docyard_schema.embeddings.in_place import is_filling, switch_in_place
from docyard_schema.errors import InvalidInput
from docyard_workers.migrate.estimate import Estimate, estimate
from docyard_workers.migrate.planning import Begun, begin, require_free
from docyard_workers.migrate.target import Target, prove, target_provider

if TYPE_CHECKING:
    from docyard_schema import Database, EmbeddingModel
    from docyard_workers.embed.providers import Providers

Strategy: TypeAlias = Literal["beside", "in-place"]


async def estimate_reembed(database: Database, providers: Providers, target: Target) -> Estimate:
    """What a reembed would take; nothing is asked of a provider, and nothing is changed."""
    provider, _ = await target_provider(database, providers, target)
    try:
        return await estimate(database, provider, target.model)
    finally:
        await provider.aclose()


async def begin_reembed(
    database: Database,
    providers: Providers,
    target: Target,
    *,
    strategy: Strategy = "beside",
    activate: bool = True,
) -> tuple[EmbeddingModel, Begun | None]:
    """The model, registered, and the batch that fills it; no batch when it is active and complete already.

    Each step may be the last one before a crash: called again it goes on from there. Raises what the provider
    raises, :class:`ModelMismatch` for another model of the same name, :class:`Conflict` while a reembed to
    another model is under way.
    """
    if strategy not in ("beside", "in-place"):
        raise InvalidInput(f"A strategy is beside or in-place, got {strategy!r}.", operation="reembed")
    if strategy == "in-place" and not activate:
        raise InvalidInput(
            "In place the new model is activated first; it cannot be left inactive.",
            hint="Leave --no-activate out, or use --strategy beside.",
            operation="reembed",
        )
    models = ModelRepository(database)
    provider, settings = await target_provider(database, providers, target)
    try:
        identity = await prove(provider)
    finally:
        await provider.aclose()
    active = await models.active()
    if active is not None and active.identity == identity and not is_filling(active):
        return active, None
    await require_free(database, identity.name)
    model = await models.register(identity, settings=settings)
    if strategy == "in-place":
        model = await switch_in_place(database, model.name)
    return model, await begin(database, model, activate=activate)
