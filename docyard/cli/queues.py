"""``docyard queues``: list, pause, resume."""

from __future__ import annotations

from typing import Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation
from docyard.cli.output import span

queues = typer.Typer(no_args_is_help=True, help="Look at queues; pause and resume them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue, as docyard queues list shows it.")]


@queues.command("list")
@command
async def list_queues(invocation: Invocation, as_json: AsJson = False) -> None:
    """List queues: how many jobs are where, for how long the oldest waits, and which are paused."""
    from docyard_queue import queues as known

    output = invocation.output
    async with invocation.database() as database:
        found = await known.list_queues(database)
    if as_json:
        output.json(found)
        return
    output.table(
        ["queue", "available", "running", "scheduled", "retryable", "dead", "done 24 h", "oldest", "paused"],
        [
            [
                queue.name,
                queue.available,
                queue.running,
                queue.scheduled,
                queue.retryable,
                queue.dead,
                queue.completed_24h,
                None if queue.oldest_available_s is None else span(queue.oldest_available_s),
                (queue.reason or "yes") if queue.paused else None,
            ]
            for queue in found
        ],
        empty="No queues yet.",
    )


@queues.command("pause")
@command
async def pause_queue(
    invocation: Invocation,
    name: Name,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; shown by list and by jobs explain.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let no worker claim the queue's jobs until it is resumed; those that run go on.

    It may be a queue that nobody has used yet.
    """
    from docyard_queue import queues as known

    async with invocation.database() as database:
        await known.pause(database, name, reason=reason)
    if as_json:
        invocation.output.json({"queue": name, "paused": True, "reason": reason})
    else:
        invocation.output.line(f"Queue {name} is paused. Go on with: docyard queues resume {name}")


@queues.command("resume")
@command
async def resume_queue(invocation: Invocation, name: Name, as_json: AsJson = False) -> None:
    """Let workers claim the queue's jobs again, at once."""
    from docyard_queue import queues as known

    async with invocation.database() as database:
        changed = await known.resume(database, name)
    if as_json:
        invocation.output.json({"queue": name, "paused": False, "changed": changed})
    else:
        invocation.output.line(f"Queue {name} {'goes on' if changed else 'was not paused'}.")
