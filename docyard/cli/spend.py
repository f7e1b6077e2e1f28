"""``docyard spend``: what vectors cost, by day, model and collection."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from docyard.cli.command import command
from docyard.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.embeddings.spend import SpendRow


@command
async def spend(
    invocation: Invocation,
    days: Annotated[int, typer.Option("--days", min=1, help="Days of UTC, today included.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show requests, tokens and US dollars by day, model and collection."""
    from docyard_schema.embeddings.spend import dollars, list_spend

    output = invocation.output
    async with invocation.database() as database:
        rows = await list_spend(database, days=days)
    requests, tokens, cost = sum(row.requests for row in rows), sum(row.tokens for row in rows), _total(rows)
    if as_json:
        total = {"requests": requests, "tokens": tokens, "cost": cost}
        output.json({"days": days, "total": total, "rows": rows})
        return
    output.table(
        ["day", "requests", "tokens", "cost", "model", "collection"],
        [
            [str(row.day), row.requests, row.tokens, dollars(row.cost), row.model, row.collection]
            for row in rows
        ],
        empty="Nothing was spent on vectors in that time.",
    )
    if rows:
        output.line()
        output.line(f"Together: {requests:,} requests, {tokens:,} tokens, {dollars(cost)}.")


def _total(rows: Sequence[SpendRow]) -> Decimal | None:
    known = [row.cost for row in rows if row.cost is not None]
    return sum(known, Decimal(0)) if known else None
