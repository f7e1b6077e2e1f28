"""``docyard jobs``: list, show, retry, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard_schema.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from docyard.cli.output import Output
    from docyard_queue import AttemptRow, Inspection, JobRow

jobs = typer.Typer(no_args_is_help=True, help="Look at jobs; retry and cancel them.")

STATES = "scheduled, available, running, retryable, completed, cancelled or dead"
_PAGE = 1000

State = Annotated[str | None, typer.Option("--state", "-s", help=f"Only jobs that are {STATES}.")]
Kind = Annotated[str | None, typer.Option("--kind", "-k", help="Only jobs of this kind, such as ingest.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
BatchId = Annotated[UUID | None, typer.Option("--batch", metavar="ID", help="Only jobs of this batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobIds = Annotated[list[int] | None, typer.Argument(metavar="[ID…]", help="Ids, as shown by: docyard jobs list")]


@jobs.command("list")
@command
async def list_jobs(
    invocation: Invocation,
    state: State = None,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Jobs at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    inspection, output = _inspection(invocation), invocation.output
    async with inspection as looked:
        found = await looked.jobs(state=state, kind=kind, queue=queue, batch_id=batch, limit=limit)
    if as_json:
        output.json(found)
        return
    output.table(
        ["id", "kind", "queue", "state", "attempts", "created", "finished", "error"],
        [
            [job.id, job.kind, job.queue, job.state, job.attempts, job.created_at, job.finished_at, _error(job)]
            for job in found
        ],
        empty="No such jobs.",
    )
    if len(found) == limit:
        output.note(f"The newest {limit}; more with --limit.")
