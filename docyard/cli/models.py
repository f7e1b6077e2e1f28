"""``docyard models``: list, register, activate, rollback, drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.changing import asked, on_terminal
from docyard.cli.command import FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import plain

if TYPE_CHECKING:
    from docyard_schema import Database, EmbeddingModel
    from docyard_schema.embeddings import IndexState

models = typer.Typer(no_args_is_help=True, help="Look at embedding models; register, activate and drop them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EvenIncomplete = Annotated[
    bool,
    typer.Option("--even-incomplete", help="Also when documents are then no longer found by meaning."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model, as docyard models list shows it.")]


@models.command("list")
@command
async def list_models(invocation: Invocation, as_json: AsJson = False) -> None:
    """List models: their states, how many chunks have their vectors or lack them, and their indexes.

    The chunks are counted, which takes a second or two for a million of them.
    """
    from docyard_schema.embeddings import overview

    output = invocation.output
    async with invocation.database() as database:
        found = await overview(database)
    if as_json:
        output.json([plain(one.model) | {**plain(one), "model": one.model.name} for one in found])
        return
    output.table(
        ["model", "provider", "dimensions", "state", "vectors", "missing", "refused", "size MB", "index"],
        [
            [
                one.model.name,
                one.model.provider,
                one.model.dimension,
                one.model.state,
                one.embedded,
                one.missing,
                one.failed,
                round(one.bytes / 1e6),
                _told(one.index),
            ]
            for one in found
        ],
        empty="No models yet: the first one comes with the first document.",
    )


@models.command("register")
@command
async def register_model(
    invocation: Invocation,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, as its provider calls it.")],
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="openai or wordllama. Not given: seen by the model."),
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option("--dimension", min=1, max=4000, help="Numbers per vector. Not given: the model's own."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url", metavar="URL", help="An OpenAI-compatible server. Not given: as in the settings."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a model beside the active one: from now on new documents get its vectors too.

    Searches do not change. Its provider is asked what it is; the vectors of stored documents are the work
    of a migration, which registers the model itself. Keys come from the settings.
    """
    from docyard_schema import ModelRepository
    from docyard_workers.embed.providers import Providers

    providers = Providers(invocation.settings.pipeline_options().embedding)
    try:
        identity, settings = await providers.asked(
            model=model, provider=provider, dimension=dimension, base_url=base_url
        )
    finally:
        await providers.aclose()
    async with invocation.database() as database:
        made = await ModelRepository(database).register(identity, settings=settings)
    _tell(invocation, made, f"{identity.describe()} is {made.state}.", as_json=as_json)


@models.command("activate")
@command
async def activate_model(
    invocation: Invocation,
    name: Name,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse also when the model refused texts that others took.")
    ] = False,
    even_incomplete: EvenIncomplete = False,
    as_json: AsJson = False,
) -> None:
    """Let searches use this model from now on; the one before is kept up to date, to go back to.

    Refused, with counts, when documents would no longer be found by meaning.
    """
    from docyard_schema import ModelRepository

    async with invocation.database() as database:
        made = await ModelRepository(database).activate(
            name, except_failed=not strict, even_incomplete=even_incomplete
        )
        await _have_index_built(invocation, database, made)
    _tell(invocation, made, f"{name} is active. Go back with: docyard models rollback", as_json=as_json)


@models.command("rollback")
@command
async def roll_back_model(
    invocation: Invocation, even_incomplete: EvenIncomplete = False, as_json: AsJson = False
) -> None:
    """Let searches use the model again that was active before; once more undoes it."""
    from docyard_schema import ModelRepository

    async with invocation.database() as database:
        made = await ModelRepository(database).rollback(even_incomplete=even_incomplete)
    _tell(invocation, made, f"{made.name} is active again.", as_json=as_json)


@models.command("drop")
@command
async def drop_model(
    invocation: Invocation,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> int | None:
    """Delete a model with all its vectors; the active one cannot be dropped. There is no way back."""
    from docyard_schema import ModelRepository

    async with invocation.database() as database:
        if not yes and on_terminal() and not asked(f"Delete {name} and all its vectors?"):
            invocation.output.note("Nothing was changed.")
            return FAILED
        gone = await ModelRepository(database).drop(name)
    if as_json:
        invocation.output.json({"model": gone.name, "dropped": True})
    else:
        invocation.output.line(f"{name} is gone, and its vectors with it.")
    return None


async def _have_index_built(invocation: Invocation, database: Database, model: EmbeddingModel) -> None:
    """For a model that nobody writes vectors of: those who do ask for the index themselves."""
    from docyard_queue import PostgresEngine
    from docyard_workers.embed.index_job import BuildIndex

    job = await BuildIndex(database, invocation.settings.pipeline_options().index).wanted(model)
    if job is not None:
        await PostgresEngine(database).enqueue([job])
        invocation.output.note("Searches read all its vectors until a worker has built their index.")


def _tell(invocation: Invocation, model: EmbeddingModel, line: str, *, as_json: bool) -> None:
    if as_json:
        values: dict[str, Any] = plain(model)
        invocation.output.json(values)
    else:
        invocation.output.line(line)


def _told(index: IndexState) -> str:
    if index.phase is not None:
        return f"{index.phase}, {index.done:.0%}"
    if index.valid is None:
        return "none"
    return "yes" if index.valid else "invalid"
