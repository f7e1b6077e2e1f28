"""``docyard jobs prune``: delete what ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from docyard.cli.age import read_age
from docyard.cli.command import command
from docyard.cli.invocation import Invocation
from docyard.cli.jobs import AsJson
from docyard.cli.output import counted


@command
async def prune_jobs(
    invocation: Invocation,
    older_than: Annotated[
        timedelta,
        typer.Option(
            "--older-than",
            metavar="AGE",
            parser=read_age,
            help="Only jobs that ended longer ago than this: 90s, 30m, 12h, 7d.",
        ),
    ],
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            help="completed, cancelled or dead; repeatable. Not given: completed and cancelled.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, max=100_000, help="Jobs per transaction.")
    ] = 1000,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help="Jobs at most, the oldest first.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete jobs that ended long ago, with their attempts, a batch at a time; for a nightly timer.

    Jobs that have not ended are never touched, and dead letters only with --state dead.
    """
    from docyard_queue.prune import PRUNED, prune

    output = invocation.output
    async with invocation.database() as database:
        deleted = await prune(
            database, older_than=older_than, states=state or PRUNED, batch_size=batch_size, limit=limit
        )
    if as_json:
        output.json({"deleted": deleted})
    else:
        told = ", ".join(f"{number:,} {state}" for state, number in deleted.items())
        output.line(f"{counted(sum(deleted.values()), 'job')} deleted: {told}.")
