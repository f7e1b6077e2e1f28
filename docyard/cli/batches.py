"""``docyard batches``: list, show, watch, pause, resume, cancel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import counted

if TYPE_CHECKING:
    from docyard.batch import Batch
    from docyard.cli.output import Output
    from docyard_queue import BatchProgress

batches = typer.Typer(no_args_is_help=True, help="Look at batches of jobs; pause, resume and cancel them.")

BatchId = Annotated[UUID, typer.Argument(metavar="ID", help="As docyard ingest and batches list say it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COUNTS = ("total", "waiting", "running", "completed", "dead", "cancelled")


@batches.command("list")
@command
async def list_batches(
    invocation: Invocation,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Batches at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first."""
    from docyard_queue import list_batches

    async with invocation.database() as database:
        found = await list_batches(database, limit=limit)
    if as_json:
        invocation.output.json(found)
        return
    invocation.output.table(
        ["id", "state", *_COUNTS, "created", "label"],
        [
            [
                str(batch.batch_id),
                batch.state,
                *(getattr(batch, name) for name in _COUNTS),
                batch.created_at,
                batch.label,
            ]
            for batch in found
        ],
        empty="No batches.",
    )


@batches.command("show")
@command
async def show_batch(invocation: Invocation, batch_id: BatchId, as_json: AsJson = False) -> None:
    """Show a batch's progress, what its jobs did, and its first failures."""
    from docyard.batch import Batch

    async with invocation.database() as database:
        await _show(invocation.output, Batch(database, batch_id, files=0, refused=()), as_json=as_json)


@batches.command("watch")
@command
async def watch_batch(invocation: Invocation, batch_id: BatchId, as_json: AsJson = False) -> int:
    """Show a batch's progress until all of its jobs have ended; fails when some are dead."""
    from docyard.batch import Batch
    from docyard.cli.progress import choose_display, until_done

    invocation.start_logs(behind_progress=sys.stderr.isatty())
    async with invocation.database() as database:
        batch = Batch(database, batch_id, files=0, refused=())
        if (await batch.progress()).state == "paused":
            invocation.output.note(f"It is paused. Let it go on: docyard batches resume {batch_id}")
        with choose_display(quiet=invocation.options.quiet, any_kind=True) as display:
            await until_done(batch, display)
        progress = await _show(invocation.output, batch, as_json=as_json)
    return FAILED if progress.dead else DONE


@batches.command("pause")
@command
async def pause_batch(invocation: Invocation, batch_id: BatchId, as_json: AsJson = False) -> None:
    """Let workers begin none of a batch's jobs; those that run go on."""
    from docyard_queue import pause_batch

    async with invocation.database() as database:
        await pause_batch(database, batch_id)
    if as_json:
        invocation.output.json({"batch_id": batch_id, "paused": True})
    else:
        invocation.output.line("Paused.")


@batches.command("resume")
@command
async def resume_batch(invocation: Invocation, batch_id: BatchId, as_json: AsJson = False) -> None:
    """Let workers go on with a batch that was paused."""
    from docyard_queue import resume_batch

    async with invocation.database() as database:
        await resume_batch(database, batch_id)
    if as_json:
        invocation.output.json({"batch_id": batch_id, "paused": False})
    else:
        invocation.output.line("Resumed.")


@batches.command("cancel")
@command
async def cancel_batch(invocation: Invocation, batch_id: BatchId, as_json: AsJson = False) -> None:
    """Cancel a batch's waiting jobs, and ask its running ones to stop."""
    from docyard_queue import cancel_batch

    async with invocation.database() as database:
        waiting, running = await cancel_batch(database, batch_id)
    if as_json:
        invocation.output.json({"cancelled": waiting, "asked_to_stop": running})
        return
    told = f"{counted(waiting, 'job')} cancelled"
    invocation.output.line(told + (f", {running:,} running asked to stop." if running else "."))


async def _show(output: Output, batch: Batch, *, as_json: bool) -> BatchProgress:
    from docyard.cli.output import plain
    from docyard.cli.summary import tell_failures, tell_spend, tell_summary

    progress = await batch.progress()
    kinds = await batch.kinds()
    summary = await batch.summary()
    if as_json:
        output.json(plain(progress) | {"kinds": kinds, "summary": summary})
        return progress
    output.fields(
        {"batch": batch.id, "label": progress.label or None, "state": progress.state}
        | {name: f"{getattr(progress, name):,}" for name in _COUNTS}
        | {"jobs/s": progress.rate, "left": None if progress.has_ended else progress.eta}
        | {"callback": progress.callback_job_id}
    )
    if "ingest" in kinds:
        output.line()
        tell_summary(output, summary, files=kinds["ingest"].total, seconds=summary.seconds)
    else:
        tell_spend(output, summary)
        tell_failures(output, summary)
    return progress
