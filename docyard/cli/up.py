"""``docyard up``: the embedded database and a worker in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from docyard.cli.output import Output
    from docyard.facade import Docyard
    from docyard_workers.process import Worker


@command
async def up(
    invocation: Invocation,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs at once.", show_default=False)] = None,
    app: Annotated[
        str | None, typer.Option(metavar="MODULE:REGISTRY", help="Handlers of your own, beside docyard's.")
    ] = None,
) -> None:
    """Run the database and a worker here, until Ctrl-C: all that one machine needs."""
    from docyard.cli.working import load_registry, stops

    invocation.stopping.is_the_end = True
    registry = load_registry(app) if app else None
    async with invocation.yard(registry, app) as yard:
        worker = yard.worker(concurrency=concurrency)
        with stops(invocation, worker):
            async with worker:
                _greet(invocation, invocation.output, yard, worker)
                await worker.run()


def _greet(invocation: Invocation, output: Output, yard: Docyard, worker: Worker) -> None:
    from docyard import __version__

    provider = yard.pipeline.provider
    output.line(f"docyard {__version__} is up: {yard.database.describe()}.")
    output.line(
        f"One worker runs up to {worker.options.concurrency} jobs at once; vectors by {provider.name}."
    )
    if invocation.options.database_url is None and invocation.options.config is None:
        at = f"--home '{invocation.options.home}' " if invocation.options.home else ""
        output.note("From another terminal, in this folder:")
        output.note(f"  docyard {at}ingest PATH --wait")
        output.note(f'  docyard {at}search "what you want to know"')
        output.note(f"  docyard {at}status")
    output.note("Ctrl-C ends it.")
