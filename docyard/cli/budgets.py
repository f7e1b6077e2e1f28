"""``docyard budgets``: list, set, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation
from docyard.cli.limiting import read_rate, told_rate
from docyard.cli.output import span

budgets = typer.Typer(no_args_is_help=True, help="Look at budgets that the whole fleet shares, and set them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The budget, as handlers name it.")]


@budgets.command("list")
@command
async def list_all(invocation: Invocation, as_json: AsJson = False) -> None:
    """List budgets: how much flows in, what is left now, and what is cooling down.

    The rates of queues and of their partition keys are among them, once a job has drawn on them.
    """
    from docyard_queue import budgets as known

    output = invocation.output
    async with invocation.database() as database:
        found = await known.list_budgets(database)
    if as_json:
        output.json(found)
        return
    output.table(
        ["budget", "unit", "amount", "per", "left", "cooling until", "why"],
        [
            [
                budget.name,
                budget.unit,
                None if budget.amount is None else f"{budget.amount:g}",
                None if budget.window_seconds is None else span(budget.window_seconds),
                None if budget.remaining is None else f"{budget.remaining:.6g}",
                budget.cool_until,
                budget.reason,
            ]
            for budget in found
        ],
        empty="No budgets yet.",
    )


@budgets.command("set")
@command
async def set_one(
    invocation: Invocation,
    name: Name,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="requests, tokens, money, or your own.")],
    rate: Annotated[str, typer.Argument(metavar="N/TIME", help="How much flows in, such as 3000/1m.")],
    as_json: AsJson = False,
) -> None:
    """Allow so much of a unit in a while, over all workers. Who had one keeps the share that was left."""
    from docyard_queue import budgets as known

    wanted = read_rate(rate)
    async with invocation.database() as database:
        await known.set_budget(database, name, unit, wanted)
    if as_json:
        invocation.output.json({"name": name, "unit": unit, "amount": wanted.amount, "per": wanted.per})
    else:
        invocation.output.line(f"Budget {name}: {unit} {told_rate(wanted)}.")


@budgets.command("remove")
@command
async def remove(
    invocation: Invocation,
    name: Name,
    unit: Annotated[str | None, typer.Argument(metavar="UNIT", help="This unit; without it, all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Forget a budget, or one unit of it: what has none is free."""
    from docyard_queue import budgets as known
    from docyard_schema.errors import NotFound

    async with invocation.database() as database:
        removed = await known.remove_budget(database, name, unit)
    if not removed:
        raise NotFound(
            f"There is no budget {name}{f' of {unit}' if unit else ''}.", hint="docyard budgets list"
        )
    if as_json:
        invocation.output.json({"name": name, "removed": removed})
    else:
        invocation.output.line(f"Budget {name} is gone: {', '.join(removed)}.")
