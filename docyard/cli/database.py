"""``docyard db``: the schema's steps, and who may do what in it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from docyard.cli.command import DONE, FAILED, command
from docyard.cli.invocation import Invocation
from docyard.cli.output import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from docyard.cli.output import Output
    from docyard_schema import Connection, Namespace
    from docyard_schema.migrations import Step

db = typer.Typer(no_args_is_help=True, help="Bring the database's schema up to date, and look at it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


@db.command()
@command
async def migrate(
    invocation: Invocation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    to: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The last step to apply.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Apply the schema steps that the database lacks; creates pgvector when it may."""
    from docyard_schema import migrations

    async with _connected(invocation) as (connection, namespace):
        if dry_run:
            pending = (await migrations.migration_status(connection, namespace)).pending
            steps: Sequence[Step] = [step for step in pending if to is None or step.number <= to]
        else:
            await migrations.ensure_vectors(connection, namespace.schema)
            vectors = await migrations.find_vectors(connection)
            steps = await migrations.migrate(
                connection,
                type(namespace)(namespace.schema, vectors or "public"),
                to=to,
                timeout_seconds=invocation.settings.migration_timeout_seconds,
            )
    words = ("Would apply", "Nothing to do: every step is there.")
    _tell(invocation.output, steps, words if dry_run else ("Applied", words[1]), as_json=as_json)


@db.command()
@command
async def rollback(
    invocation: Invocation,
    to: Annotated[int, typer.Option(metavar="N", min=0, help="The last step that stays; 0 takes all back.")],
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Also lose documents, vectors and jobs of the steps taken back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take schema steps back, the last one first. Refused where rows would be lost."""
    from docyard_schema import migrations

    async with _connected(invocation) as (connection, namespace):
        steps = await migrations.rollback(
            connection,
            namespace,
            to=to,
            destroy=destroy,
            timeout_seconds=invocation.settings.migration_timeout_seconds,
        )
    _tell(invocation.output, steps, ("Took back", "Nothing to take back."), as_json=as_json)


@db.command("status")
@command
async def status_of_steps(invocation: Invocation, as_json: AsJson = False) -> None:
    """Show which schema steps the database has."""
    from docyard_schema import migrations

    output = invocation.output
    async with _connected(invocation) as (connection, namespace):
        found = await migrations.migration_status(connection, namespace)
    if as_json:
        output.json(
            {
                "schema": namespace.schema,
                "step": found.version,
                "applied": _named(found.applied),
                "pending": _named(found.pending),
            }
        )
        return
    rows = [[step.number, step.name, "applied"] for step in found.applied]
    rows += [[step.number, step.name, "pending"] for step in found.pending]
    output.table(["step", "name", "state"], rows)
    if found.pending:
        output.note(f"{len(found.pending)} to apply: docyard db migrate")


@db.command()
@command
async def drift(invocation: Invocation, as_json: AsJson = False) -> int:
    """Compare the schema with what its steps make; exit code 1 when something differs."""
    from docyard_schema import migrations

    output = invocation.output
    async with _connected(invocation) as (connection, namespace):
        step = (await migrations.migration_status(connection, namespace)).version
        found = await migrations.find_drift(connection, namespace, to=step)
    if as_json:
        output.json({"schema": namespace.schema, "step": step, "differences": found})
    else:
        for difference in found:
            output.block(difference, indent="")
        output.note(
            f"{counted(len(found), 'difference')} from step {step}."
            if found
            else f"No difference from step {step}."
        )
    return FAILED if found else DONE


@db.command()
@command
async def roles(
    invocation: Invocation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the SQL, for psql.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the roles for producers, workers, viewers and operators; after each migration again."""
    from docyard_schema.roles import ROLES, grant_roles

    output = invocation.output
    async with _connected(invocation) as (connection, namespace):
        statements = await grant_roles(connection, namespace, dry_run=dry_run)
    if as_json:
        output.json({"roles": ROLES, "statements": statements})
    elif dry_run:
        for statement in statements:
            output.line(f"{statement};")
    else:
        output.table(["role", "may"], [[role, rights] for role, rights in ROLES.items()])
        output.note("Give them to a user: GRANT docyard_worker TO app;")


@db.command()
@command
async def events(
    invocation: Invocation,
    wanted: Annotated[Switch | None, typer.Argument(metavar="[on|off]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Write procrastinate's event rows, or no longer; without an argument say whether they are written.

    One row per job and event in procrastinate_events, for whoever reads that table. Nothing of docyard does.
    """
    from docyard_schema import migrations

    changed = False
    async with _connected(invocation) as (connection, namespace):
        if wanted is not None:
            changed = await migrations.write_event_rows(
                connection,
                namespace,
                wanted=wanted is Switch.ON,
                timeout_seconds=invocation.settings.migration_timeout_seconds,
            )
        written = await migrations.event_rows_are_written(connection, namespace)
    if as_json:
        invocation.output.json({"written": written, "changed": changed})
        return
    told = "Event rows are written" if written else "No event rows are written"
    invocation.output.line(f"{told}{'' if wanted is None or changed else ', as before'}.")


@asynccontextmanager
async def _connected(invocation: Invocation) -> AsyncIterator[tuple[Connection, Namespace]]:
    """A connection past any pooler to the database as it is, with or without docyard's schema."""
    async with (
        invocation.database(initialize=False) as database,
        database.dedicated() as connection,
    ):
        yield connection, database.namespace


def _tell(output: Output, steps: Sequence[Step], words: tuple[str, str], *, as_json: bool) -> None:
    if as_json:
        output.json({"steps": _named(steps)})
        return
    for step in steps:
        output.line(f"{words[0]} {step.number:04} {step.name}")
    if not steps:
        output.line(words[1])


def _named(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [{"number": step.number, "name": step.name} for step in steps]
