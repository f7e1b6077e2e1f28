"""``docyard doctor``: what is wrong, or soon will be, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import counted

if TYPE_CHECKING:
    from docyard.cli.output import Output
    from docyard_queue.diagnosis import Finding


@command
async def doctor(
    invocation: Invocation,
    transaction_seconds: Annotated[
        float,
        typer.Option(
            "--transaction-seconds",
            metavar="SECONDS",
            min=0,
            help="From when on an open transaction is told.",
        ),
    ] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Look at all that is known to go wrong: database, schema, workers, jobs. Exit code 1 on a problem.

    It changes nothing, and needs no more rights than there are: what it may not see, it says.
    """
    from docyard_queue.diagnosis import Level, examine, unreachable
    from docyard_schema.errors import DatabaseError

    try:
        async with invocation.database(initialize=False) as database:
            found = await examine(database, transaction_seconds=transaction_seconds)
    except DatabaseError as error:
        found = [unreachable(error)]
    problems = sum(finding.level is Level.PROBLEM for finding in found)
    warnings = sum(finding.level is Level.WARNING for finding in found)
    if as_json:
        invocation.output.json({"problems": problems, "warnings": warnings, "findings": found})
    else:
        _tell(invocation.output, found)
        invocation.output.note(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}.")
    return FAILED if problems else DONE


def _tell(output: Output, found: list[Finding]) -> None:
    output.table(
        ["check", "state", "finding", "do"],
        [[finding.check, finding.level.value, finding.finding, finding.advice] for finding in found],
    )
