"""``docyard ingest``: one job per file, run here with ``--work``, else by workers elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import DONE, FAILED, WRONG_USE, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import counted
from docyard.cli.place import short_path
from docyard.cli.working import stops

if TYPE_CHECKING:
    from docyard.batch import Batch
    from docyard.facade import Docyard


# So many new ones that the server's statistics are of yesterday.
_MANY_CHUNKS = 1000


@command
async def ingest(
    invocation: Invocation,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="The collection they go into.")
    ] = "default",
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Take only what matches, as in a .gitignore. May be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out what matches. May be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="A tag for each document. May be repeated.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Jobs of a higher priority run first.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until workers elsewhere are done.")] = False,
    work: Annotated[
        bool, typer.Option("--work", help="Do the work in this process, until no job is left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> int:
    """Make documents of files and folders, embed them, and have them found by search.

    Bytes that are stored already cost nothing, so the same call again brings everything up to date.
    """
    from docyard.cli import progress
    from docyard.cli import summary as summaries

    output = invocation.output
    if not any(path.exists() for path in paths):
        output.error(
            f"Nothing there: {', '.join(map(str, paths))}.",
            f"Paths are looked up from {Path.cwd()}; name files or folders that exist.",
        )
        return WRONG_USE
    invocation.start_logs(behind_progress=sys.stderr.isatty())
    begun = time.monotonic()
    async with invocation.yard() as yard:
        batch = await yard.ingest(
            paths,
            collection=collection,
            include=include or (),
            exclude=exclude or (),
            tags=tag or (),
            priority=priority,
        )
        progress.log_enqueued(batch)
        summaries.tell_refused(output, batch.refused)
        if not batch.files:
            output.note(f"No files to ingest in {', '.join(map(short_path, paths))}.")
        elif work:
            await _work(invocation, yard, batch)
        elif wait:
            await _wait(invocation, yard, batch)
        ended = work or wait or not batch.files
        seconds = time.monotonic() - begun
        summary = await batch.summary() if ended else None
        if work and summary is not None and summary.chunks >= _MANY_CHUNKS:
            await yard.refresh()
        if as_json:
            output.json(summaries.as_json(batch, summary, seconds))
        elif summary is None:
            output.line(f"{counted(batch.files, 'job')} enqueued as batch {batch.id}.")
            output.note("Run them: docyard worker   Look: docyard batches show " + str(batch.id))
        elif batch.files:
            summaries.tell_summary(output, summary, files=batch.files, seconds=seconds)
        if summary is not None:
            await progress.log_finished(batch, seconds)
        if invocation.stopping.signal is not None:
            output.note(
                f"Stopped before the end. Go on: docyard worker   Look: docyard batches show {batch.id}"
            )
            invocation.stopping.raise_if_stopped()
        failed = summaries.failed_paths(batch.refused, paths)
        return FAILED if failed or (summary is not None and summary.failed) else DONE


async def _work(invocation: Invocation, yard: Docyard, batch: Batch) -> None:
    from docyard.cli.progress import choose_display, watched

    worker = yard.worker()
    with stops(invocation, worker):
        async with watched(batch, choose_display(quiet=invocation.options.quiet)), worker:
            await worker.drain()


async def _wait(invocation: Invocation, yard: Docyard, batch: Batch) -> None:
    from docyard.cli.progress import choose_display, until_done
    from docyard_queue import Inspection

    if not any(worker.state == "running" for worker in await Inspection(yard.database).workers()):
        invocation.output.note("No worker is running yet. Start one in another terminal: docyard worker")
    with choose_display(quiet=invocation.options.quiet) as display:
        await until_done(batch, display)
