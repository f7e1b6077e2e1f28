"""``docyard jobs``: list, show, retry, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from docyard.cli.output import Output
    from docyard_queue import Inspection, JobRow

jobs = typer.Typer(no_args_is_help=True, help="Look at jobs; retry and cancel them.")

STATES = "scheduled, available, running, retryable, completed, cancelled, dead"
_PAGE = 1000

State = Annotated[str | None, typer.Option("--state", "-s", help=f"Only jobs in this state: {STATES}.")]
Kind = Annotated[str | None, typer.Option("--kind", "-k", help="Only jobs of this kind, such as ingest.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
BatchId = Annotated[UUID | None, typer.Option("--batch", metavar="ID", help="Only jobs of this batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobIds = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]…", help="Ids, as docyard jobs list shows them.")
]


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


@jobs.command("retry")
@command
async def retry_jobs(
    invocation: Invocation,
    job_ids: JobIds = None,
    state: State = None,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    as_json: AsJson = False,
) -> int:
    """Run ended jobs again, with all their attempts; those that wait for another attempt run at once.

    Name ids, or choose by filters: docyard jobs retry --state dead
    """
    from docyard_queue import Inspection

    async with invocation.database() as database:
        inspection = Inspection(database)
        changed, chosen = await _to_all(
            inspection, inspection.retry, job_ids, state=state, kind=kind, queue=queue, batch_id=batch
        )
        return await _tell(invocation.output, inspection, "set to run", changed, chosen, as_json=as_json)


@jobs.command("cancel")
@command
async def cancel_jobs(
    invocation: Invocation,
    job_ids: JobIds = None,
    state: State = None,
    kind: Kind = None,
    queue: Queue = None,
    batch: BatchId = None,
    as_json: AsJson = False,
) -> int:
    """Cancel waiting jobs, and ask running ones to stop.

    Name ids, or choose by filters: docyard jobs cancel --state available --queue ingest
    """
    from docyard_queue import Inspection

    async with invocation.database() as database:
        inspection = Inspection(database)
        changed, chosen = await _to_all(
            inspection, inspection.cancel, job_ids, state=state, kind=kind, queue=queue, batch_id=batch
        )
        return await _tell(invocation.output, inspection, "cancelled", changed, chosen, as_json=as_json)


async def _to_all(
    inspection: Inspection,
    change: Callable[[Sequence[int]], Awaitable[Collection[int]]],
    job_ids: list[int] | None,
    **filters: object,
) -> tuple[list[int], list[int]]:
    """Ids changed and ids chosen."""
    from docyard_schema import InvalidInput

    if job_ids and any(filters.values()):
        raise InvalidInput("Name ids or filters, not both.")
    if job_ids:
        return sorted(await change(job_ids)), job_ids
    if not any(filters.values()):
        raise InvalidInput(
            "No job was named.", hint="Name ids, or choose: docyard jobs retry --state dead   (see --help)"
        )
    changed: list[int] = []
    while True:
        # What was changed no longer fits, or comes again and is not counted twice.
        page = [job.id for job in await inspection.jobs(limit=_PAGE + len(changed), **filters)]  # type: ignore[arg-type]
        new = [job_id for job_id in page if job_id not in set(changed)]
        done = sorted(await change(new)) if new else []
        changed += done
        if not done or len(new) < _PAGE:
            return sorted(changed), sorted(changed)


async def _tell(
    output: Output,
    inspection: Inspection,
    word: str,
    changed: Sequence[int],
    chosen: Sequence[int],
    *,
    as_json: bool,
) -> int:
    left = [job_id for job_id in chosen if job_id not in changed]
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


def _error(job: JobRow) -> str | None:
    first = (job.error_message or "").strip().splitlines()[:1]
    return first[0][:120] if first else job.error_code
