"""``docyard schedules``: list, run."""

from __future__ import annotations

from typing import Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

schedules = typer.Typer(no_args_is_help=True, help="Look at schedules; run one now.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@schedules.command("list")
@command
async def list_schedules(
    invocation: Invocation,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:REGISTRY",
            help="Where they are written. Not given: what the database knows of them.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List schedules: when they fire, what they enqueue, the last moment and the next.

    Schedules are code. Without --app there are only the names that a worker has seen, and their last moments.
    """
    from docyard.cli.working import load_registry
    from docyard_queue.schedule_listing import list_schedules

    output = invocation.output
    registry = load_registry(app) if app else None
    async with invocation.database() as database:
        found = await list_schedules(database, registry.schedules if registry is not None else ())
    if as_json:
        output.json(found)
        return
    output.table(
        ["schedule", "cron", "timezone", "kind", "queue", "last", "job", "next"],
        [
            [
                f"{row.name} ({row.periodic_id})" if row.periodic_id else row.name,
                row.cron,
                row.timezone,
                row.kind,
                row.queue,
                row.last_moment,
                row.last_job_id,
                row.next_moment,
            ]
            for row in found
        ],
        empty="No schedules.",
    )
    if registry is None and found:
        output.note("When they fire is in the code: docyard schedules list --app MODULE:REGISTRY")


@schedules.command("run")
@command
async def run_schedule(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As docyard schedules list shows it.")],
    app: Annotated[str, typer.Option(metavar="MODULE:REGISTRY", help="Where it is written.")],
    periodic_id: Annotated[
        str | None,
        typer.Option("--periodic-id", help="Of several procrastinate tasks of one name.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue a schedule's job now, beside its own moments, and print its id."""
    from docyard.cli.working import load_registry
    from docyard_queue.schedule_listing import run_schedule

    registry = load_registry(app)
    async with invocation.database() as database:
        job_id = await run_schedule(database, registry.schedules, name, periodic_id=periodic_id)
    if as_json:
        invocation.output.json({"id": job_id})
    else:
        invocation.output.line(str(job_id))
