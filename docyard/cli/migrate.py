"""``docyard migrate``: moves all documents to another embedding model."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from docyard.facade import Docyard
    from docyard.reembedding import Reembedding

migrate = typer.Typer(no_args_is_help=True, help="Move documents to another embedding model.")


class StrategyName(StrEnum):
    """Where the new vectors are made."""

    BESIDE = "beside"
    IN_PLACE = "in-place"


class ProviderName(StrEnum):
    """Who makes vectors."""

    OPENAI = "openai"
    WORDLLAMA = "wordllama"


@migrate.command("reembed")
@command
async def reembed(
    invocation: Invocation,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The provider's name of the model, or a registered one's.")
    ],
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Who makes the vectors. Not given: as configured.", show_default=False),
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(
            min=1, max=4000, help="Numbers per vector. Not given: the model's own.", show_default=False
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of an OpenAI-compatible server.", show_default=False),
    ] = None,
    strategy: Annotated[
        StrategyName,
        typer.Option(help="beside: the old model answers until the new one is complete; in-place: at once."),
    ] = StrategyName.BESIDE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take; asks no provider.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Only enqueue it; workers elsewhere do the work.")
    ] = False,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="End when the new model is ready; activate it later.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --strategy in-place.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Make the vectors of another model, verify them, and let searches use it from one moment to the next.

    The same call again goes on where the last one ended. Until the end searches use the old model, and it
    stays until it is dropped: docyard models rollback, docyard models drop NAME.
    """
    from docyard.cli.migrate_telling import tell_end, tell_estimate, tell_started

    output = invocation.output
    wanted: dict[str, Any] = {"provider": provider, "dimension": dimension, "base_url": base_url}
    invocation.start_logs(behind_progress=sys.stderr.isatty())
    async with invocation.yard() as yard:
        if dry_run:
            tell_estimate(output, await yard.estimate_reembed(model, **wanted), as_json=as_json)
            return DONE
        if strategy is StrategyName.IN_PLACE and not (yes or _agreed(model)):
            output.note("Nothing was changed.")
            return FAILED
        begun = await yard.reembed(model, **wanted, strategy=strategy.value, activate=not no_activate)
        tell_started(output, begun, as_json=as_json, detach=detach)
        if detach or begun.batch_id is None:
            return DONE
        await _work(invocation, yard, begun)
        end = await tell_end(output, begun, as_json=as_json)
        if invocation.stopping.signal is not None and not end.has_ended:
            output.note(f"Stopped before the end. Go on: docyard migrate reembed --model {begun.model.name}")
            invocation.stopping.raise_if_stopped()
        return DONE if end.phase == "done" else FAILED


def _agreed(model: str) -> bool:
    """Whether the person at the terminal wants the old vectors gone; a script has to say --yes."""
    from docyard.cli.changing import asked, on_terminal
    from docyard_schema import InvalidInput

    if not on_terminal():
        raise InvalidInput(
            "--strategy in-place drops the vectors of the active model before the new ones are made.",
            hint="Say --yes if that is meant; --strategy beside keeps searches whole.",
        )
    return asked(f"Drop the active model's vectors, and search by words until those of {model} are made?")


async def _work(invocation: Invocation, yard: Docyard, begun: Reembedding) -> None:
    """Work on it in this process, beside any other workers, until it has ended."""
    from docyard.cli.migrate_display import following
    from docyard.cli.working import stops
    from docyard_workers.migrate.planning import QUEUE

    worker = yard.worker(queues=[QUEUE])
    with stops(invocation, worker):
        async with worker:
            # Now that what a killed call held has been taken back.
            await begun.hurry()
            async with following(begun, invocation.output) as end:
                end.add_done_callback(lambda _: worker.stop())
                await worker.run()
                if end.done():
                    end.result()
