"""``docyard jobs``: list, show, explain; the rest is in changing.py, enqueueing.py and pruning.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from docyard_queue import JobRow

jobs = typer.Typer(no_args_is_help=True, help="Look at jobs; enqueue, retry, cancel and prune them.")

STATES = "scheduled, available, running, retryable, completed, cancelled, dead"

State = Annotated[str | None, typer.Option("--state", "-s", help=f"Only jobs in this state: {STATES}.")]
Kind = Annotated[str | None, typer.Option("--kind", "-k", help="Only jobs of this kind, such as ingest.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
BatchId = Annotated[UUID | None, typer.Option("--batch", metavar="ID", help="Only jobs of this batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    from docyard_queue import Inspection

    output = invocation.output
    async with invocation.database() as database:
        found = await Inspection(database).jobs(
            state=state, kind=kind, queue=queue, batch_id=batch, limit=limit
        )
    if as_json:
        output.json(found)
        return
    output.table(
        ["id", "kind", "queue", "state", "attempts", "created", "error"],
        [
            [
                job.id,
                job.kind,
                job.queue,
                job.state,
                job.attempts,
                job.created_at,
                _error(job),
            ]
            for job in found
        ],
        empty="No such jobs.",
    )
    if len(found) == limit:
        output.note(f"The newest {limit}; more with --limit.")


@jobs.command("show")
@command
async def show_job(
    invocation: Invocation,
    job_id: Annotated[int, typer.Argument(metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Show one job: its payload, its result, and every attempt with its traceback."""
    import json

    from docyard.cli.output import plain, shown
    from docyard_queue import Inspection
    from docyard_schema.connection_string import mask_password

    output = invocation.output
    async with invocation.database() as database:
        inspection = Inspection(database)
        job = await inspection.job(job_id)
        payload, result, progress = await inspection.payload_and_result(job_id)
        attempts = await inspection.attempts(job_id)
    told = plain(job) | {"payload": payload, "result": result, "progress": progress}
    if as_json:
        output.json(told | {"attempt_rows": attempts})
        return
    for name in ("payload", "result", "progress"):
        if told[name] is not None:
            told[name] = mask_password(json.dumps(told[name], ensure_ascii=False))
    output.fields({name.replace("_", " "): value for name, value in told.items()})
    for attempt in attempts:
        output.line()
        output.line(
            f"Attempt {attempt.attempt}: {attempt.outcome}, begun {shown(attempt.started_at)}, "
            f"ended {shown(attempt.finished_at) or 'not yet'}, worker {shown(attempt.worker_id) or 'unknown'}"
        )
        if attempt.traceback:
            output.block(attempt.traceback)
        elif attempt.error_message:
            output.block(f"{attempt.error_class or 'error'}: {attempt.error_message}")


@jobs.command("explain")
@command
async def explain_job(
    invocation: Invocation,
    job_id: Annotated[int, typer.Argument(metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Say why a job is not running: its queue, its time, its lock key, its workers; or what became of it."""
    from docyard_queue.explain import explain
    from docyard_schema.connection_string import mask_password

    output = invocation.output
    async with invocation.database() as database:
        explanation = await explain(database, job_id)
    if as_json:
        output.json(explanation)
        return
    output.line(f"Job {job_id} is {explanation.state}.")
    for reason in explanation.reasons:
        output.block(f"{reason.code}: {mask_password(reason.text)}")


def _error(job: JobRow) -> str | None:
    first = (job.error_message or "").strip().splitlines()[:1]
    return first[0][:120] if first else job.error_code
