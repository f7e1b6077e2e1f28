"""``docyard jobs retry``, ``cancel`` and ``redrive``: single jobs by their ids, many by a filter."""

from __future__ import annotations

import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.age import read_age
from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.jobs import AsJson, BatchId, Kind, Queue, State
from docyard.cli.output import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from docyard.cli.output import Output
    from docyard_queue import Inspection
    from docyard_queue.selection import Change, Selection
    from docyard_schema import Database

JobIds = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]…", help="Ids, as docyard jobs list shows them.")
]
OlderThan = Annotated[
    timedelta | None,
    typer.Option(
        "--older-than",
        metavar="AGE",
        parser=read_age,
        help="Only jobs that ended, or else were enqueued, longer ago than this: 90s, 30m, 12h, 7d.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=1, help="Jobs at most, the oldest first.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also on a terminal.")]


@command
async def retry_jobs(
    invocation: Invocation,
    job_ids: JobIds = None,
    state: State = None,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Run ended jobs again, with all their attempts; those that wait for another attempt run at once.

    Name ids, or choose by filters: docyard jobs retry --state dead. Without a state those that are dead,
    cancelled or wait out their backoff are chosen.
    """
    from docyard_queue.selection import Change, Selection

    selection = Selection(state=state, kind=kind, queue=queue, batch_id=batch, older_than=older_than)
    return await _change(invocation, Change.RETRY, job_ids, selection, limit=limit, yes=yes, as_json=as_json)


@command
async def cancel_jobs(
    invocation: Invocation,
    job_ids: JobIds = None,
    state: State = None,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Cancel waiting jobs, and ask running ones to stop.

    Name ids, or choose by filters: docyard jobs cancel --state available --queue ingest
    """
    from docyard_queue.selection import Change, Selection

    selection = Selection(state=state, kind=kind, queue=queue, batch_id=batch, older_than=older_than)
    return await _change(invocation, Change.CANCEL, job_ids, selection, limit=limit, yes=yes, as_json=as_json)


@command
async def redrive_jobs(
    invocation: Invocation,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Run dead letters again, all of them or those that fit the filters: a retry of the dead."""
    from docyard_queue.selection import Change, Selection

    selection = Selection(state="dead", kind=kind, queue=queue, batch_id=batch, older_than=older_than)
    return await _change(invocation, Change.RETRY, None, selection, limit=limit, yes=yes, as_json=as_json)


async def _change(
    invocation: Invocation,
    change: Change,
    job_ids: list[int] | None,
    selection: Selection,
    *,
    limit: int | None,
    yes: bool,
    as_json: bool,
) -> int:
    from docyard_queue import Inspection
    from docyard_queue.selection import Change, Selection, change_selected
    from docyard_schema import InvalidInput

    filtered = selection != Selection()
    if job_ids and (filtered or limit):
        raise InvalidInput("Name ids or filters, not both.")
    if not job_ids and not filtered:
        raise InvalidInput(
            "No job was named.", hint="Name ids, or choose: docyard jobs retry --state dead   (see --help)"
        )
    words = {Change.RETRY: "set to run", Change.CANCEL: "cancelled"}
    async with invocation.database() as database:
        inspection = Inspection(database)
        if job_ids:
            do: Callable[[Sequence[int]], Awaitable[Collection[int]]] = (
                inspection.retry if change is Change.RETRY else inspection.cancel
            )
            changed = sorted(await do(job_ids))
        elif yes or await _agreed(database, change, selection, limit):
            changed = await change_selected(database, change, selection, limit=limit)
        else:
            invocation.output.note("Nothing was changed.")
            return FAILED
        return await _tell(
            invocation.output, inspection, words[change], changed, job_ids or changed, as_json=as_json
        )


async def _agreed(database: Database, change: Change, selection: Selection, limit: int | None) -> bool:
    """Whether the person at the terminal wants it; a script that gave filters meant them."""
    from docyard_queue.selection import count_selected

    if not on_terminal():
        return True
    fitting = await count_selected(database, change, selection)
    wanted = fitting if limit is None else min(fitting, limit)
    return not wanted or asked(f"{str(change).capitalize()} {counted(wanted, 'job')}?")


def asked(question: str) -> bool:
    """Whether the person at the terminal says yes."""
    # The event loop's handler would only hear of a Ctrl-C once the question is answered.
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False
    finally:
        signal.signal(signal.SIGINT, outer)


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


async def _tell(
    output: Output,
    inspection: Inspection,
    word: str,
    changed: Sequence[int],
    chosen: Sequence[int],
    *,
    as_json: bool,
) -> int:
    done = set(changed)
    left = [job_id for job_id in chosen if job_id not in done]
    if as_json:
        output.json({"changed": list(changed), "left": left})
    else:
        output.line(f"{counted(len(changed), 'job')} {word}.")
    for job_id in left:
        output.warn(f"Job {job_id} was left as it is: {await _why(inspection, job_id)}.")
    return FAILED if left else DONE


async def _why(inspection: Inspection, job_id: int) -> str:
    from docyard_schema import NotFound

    try:
        return f"it is {(await inspection.job(job_id)).state}"
    except NotFound:
        return "there is no such job"
