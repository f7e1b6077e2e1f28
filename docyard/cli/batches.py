"""``docyard batches``: how far the jobs of one ingest are."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

batches = typer.Typer(no_args_is_help=True, help="Look at batches of jobs.")


@batches.callback()
def _group() -> None:
    """A group also while it has one command."""


@batches.command("show")
@command
async def show_batch(
    invocation: Invocation,
    batch_id: Annotated[UUID, typer.Argument(metavar="ID", help="As docyard ingest said it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a batch's progress, what its jobs did, and its first failures."""
    from docyard.batch import Batch
    from docyard.cli.output import plain
    from docyard.cli.summary import tell_summary

    output = invocation.output
    async with invocation.database() as database:
        batch = Batch(database, batch_id, files=0, refused=())
        progress = await batch.progress()
        kinds = await batch.kinds()
        summary = await batch.summary()
    if as_json:
        output.json(plain(progress) | {"kinds": kinds, "summary": summary})
        return
    counts = ("total", "waiting", "running", "completed", "dead", "cancelled")
    output.fields(
        {"batch": batch_id, "state": progress.state}
        | {name: f"{getattr(progress, name):,}" for name in counts}
        | {"jobs/s": progress.rate, "left": progress.eta if progress.state != "finished" else None}
    )
    output.line()
    files = kinds["ingest"].total if "ingest" in kinds else 0
    tell_summary(output, summary, files=files, seconds=summary.seconds)
