"""Whether more may come of what somebody gathers, or waiting for it is in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Database

_statements = load_statements("docyard_queue", "arrivals.sql")


async def may_come(
    database: Database, *, running: Sequence[str], waiting: Sequence[str], queues: Sequence[str]
) -> bool:
    """Whether a job of the kinds ``running`` runs anywhere, or one of the kinds ``waiting`` could be claimed
    from one of ``queues`` now.

    Jobs of paused queues and batches, and of a queue that cools down, count no more than those whose time has
    not come.
    """
    values = {"running": list(running), "waiting": list(waiting), "queues": list(queues)}
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_statements.may_come), values)
        [[answer]] = await cursor.fetchall()
    return bool(answer)
