"""What ``docyard status`` says of spend, paused queues and cool-downs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from docyard.cli.output import shown

if TYPE_CHECKING:
    from docyard.cli.output import Output
    from docyard_schema import Database
    from docyard_schema.embeddings.spend import DaySpend


def tell_obstacles(output: Output, found: dict[str, Any]) -> None:
    """Say what keeps jobs from running that could run, and what ends it."""
    for pause in found["paused"]:
        because = f": {pause['reason'].rstrip('.')}" if pause["reason"] else ""
        output.line(
            f"Queue {pause['queue']} is paused since {shown(pause['paused_at'])}{because}. "
            f"Go on with: docyard queues resume {pause['queue']}"
        )
    for cooling in found["cool_downs"]:
        because = f": {cooling['reason'].rstrip('.')}" if cooling["reason"] else ""
        output.line(f"{cooling['name']} is cooling down until {shown(cooling['until'])}{because}.")
    if found["spend"].reached_at is not None:
        output.line(
            f"The daily ceiling left no room at {shown(found['spend'].reached_at)}: what did not fit waits "
            "for midnight UTC."
        )


async def paused_queues(database: Database) -> list[dict[str, Any]]:
    """The paused queues, and why."""
    from docyard_queue import queues

    return [
        {"queue": queue.name, "reason": queue.reason, "paused_at": queue.paused_at}
        for queue in await queues.list_queues(database)
        if queue.paused
    ]


async def cool_downs(database: Database) -> list[dict[str, Any]]:
    """Each cool-down once: a budget of several units is listed several times."""
    from docyard_queue.budgets import list_budgets

    known = await list_budgets(database)
    return [
        {"name": name, "until": until, "reason": reason}
        for name, until, reason in dict.fromkeys(
            (budget.name, budget.cool_until, budget.reason) for budget in known if budget.cool_until
        )
    ]


def told_spend(today: DaySpend) -> str | None:
    """Tokens and money of today; None when there were none and nobody set a ceiling."""
    from docyard_schema.embeddings.spend import dollars

    if not today.tokens and today.ceiling is None:
        return None
    ceiling = "" if today.ceiling is None else f" of {dollars(today.ceiling)}"
    reserved = f", {dollars(today.reserved)} under way" if today.reserved else ""
    spent = Decimal(0) if not today.tokens else today.cost
    return f"{today.tokens:,} tokens, {dollars(spent)}{ceiling}{reserved}"
