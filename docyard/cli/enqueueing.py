"""``docyard jobs enqueue``: one job from the shell."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from docyard.cli.age import read_age
from docyard.cli.command import command
from docyard.cli.invocation import Invocation
from docyard.cli.jobs import AsJson


def read_time(text: str) -> datetime:
    """The moment that ``text`` says, in the years 2 to 9998; raises typer's ``BadParameter`` otherwise."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    # Another time zone can move it into a year that Python does not have.
    if moment is None or moment.utcoffset() is None or not 1 < moment.year < 9999:
        raise typer.BadParameter(
            f"expected a time in ISO 8601 with its time zone, such as 2026-07-01T03:00:00+02:00; got {text!r}"
        )
    return moment


@command
async def enqueue_job(
    invocation: Invocation,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The handler's name.")],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON|-]", help="A JSON object; - reads it from standard input.")
    ] = "{}",
    queue: Annotated[
        str, typer.Option(metavar="QUEUE", help="The queue; workers may serve only some.")
    ] = "default",
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
    run_at: Annotated[
        datetime | None,
        typer.Option(
            "--run-at", metavar="TIME", parser=read_time, help="Not before: ISO 8601 with a time zone."
        ),
    ] = None,
    run_in: Annotated[
        timedelta | None,
        typer.Option("--in", metavar="SPAN", parser=read_age, help="Not before: 90s, 30m, 12h, 7d from now."),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(
            "--max-attempts", help="Attempts at most. Not given: the handler's.", show_default=False
        ),
    ] = None,
    unique_key: Annotated[
        str | None,
        typer.Option(
            "--unique-key", metavar="KEY", help="While a job waits under it, no second one is made."
        ),
    ] = None,
    lock_key: Annotated[
        str | None,
        typer.Option(
            "--lock-key", metavar="KEY", help="Of the jobs that have it one runs at a time, in order."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue one job and print its id, or the id of the one that holds its unique key."""
    from docyard_queue import NewJob, enqueue_async
    from docyard_queue.payload import encode_payload
    from docyard_schema import InvalidInput

    if run_at is not None and run_in is not None:
        raise InvalidInput("--run-at and --in say the same thing.", hint="Give one of them.")
    job = NewJob(
        kind,
        _read_payload(kind, payload),
        queue=queue,
        priority=priority,
        run_at=run_at if run_in is None else _from_now(run_in),
        max_attempts=max_attempts,
        unique_key=unique_key,
        lock_key=lock_key,
    )
    # What cannot be stored is wrong use, and known before a database is.
    encode_payload(job)
    async with invocation.database() as database, database.transaction() as connection:
        job_id = await enqueue_async(connection, job, schema=database.namespace.schema)
    if as_json:
        invocation.output.json({"id": job_id})
    else:
        invocation.output.line(str(job_id))


def _from_now(span: timedelta) -> datetime:
    from docyard_schema import InvalidInput

    try:
        return datetime.now(UTC) + span
    except OverflowError:
        raise InvalidInput(f"--in ends before the year 9999, got {span}.") from None


def _read_payload(kind: str, text: str) -> dict[str, Any]:
    import json

    from docyard_schema import InvalidInput

    if text == "-":
        text = sys.stdin.read()
    example = f"For example: docyard jobs enqueue {kind} '{{\"order\": 7}}'"
    try:
        payload = json.loads(text)
    except RecursionError:
        raise InvalidInput("The payload is nested too deeply.", hint=example) from None
    except ValueError as error:
        raise InvalidInput(f"The payload is not JSON: {error}, got {text[:100]!r}.", hint=example) from error
    if not isinstance(payload, dict):
        raise InvalidInput(
            f"The payload of a {kind!r} job is a JSON object, got {type(payload).__name__}.", hint=example
        )
    return payload
