"""Claims jobs of queues that have limits, or whose jobs have partitions: one claimer at a time per queue.

Three statements in one transaction: lock the queue's row, count and choose, claim. The reasons are in
``docs/design/limits.md``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docyard_queue.claim import OVERTAKEN, jobs_of, statements
from docyard_schema.long_statement import execute_long
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docyard_queue.jobs import Job
    from docyard_schema.database import Connection, Database

# Of so many partition keys a claim looks at the heads; the next claim goes on after them.
_KEYS = 256

_limits = load_statements("docyard_queue", "limited_claim.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedClaim:
    """What a limited claim got: ``jobs``, and ``again_in`` seconds until a rate lets more through (None: no
    rate holds any back). ``busy``: another claimer was at the queue. ``last_key`` is where the next claim
    goes on, empty for the beginning.
    """

    jobs: list[Job]
    again_in: float | None = None
    busy: bool = False
    last_key: str = ""


async def limited_queues(database: Database, queues: Sequence[str] | None) -> list[str]:
    """The queues, of these or of all, in which jobs wait for the limited claim."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(_limits.limited_queues), {"queues": None if queues is None else list(queues)}
        )
        return [queue for (queue,) in await cursor.fetchall()]


async def claim_limited(
    database: Database,
    worker_id: int,
    queue: str,
    *,
    slots: int,
    kinds: Mapping[str, int],
    after: str = "",
) -> LimitedClaim:
    """Take up to ``slots`` jobs of one queue, within its limits; its partitions take turns.

    ``after`` is the ``last_key`` of the claim before.
    """
    values: dict[str, Any] = {
        "worker": worker_id,
        "queue": queue,
        "slots": slots,
        "kinds": list(kinds),
        "limits": list(kinds.values()),
        "after": after,
        "keys": _KEYS,
    }
    try:
        return await _claim(database, values)
    except OVERTAKEN:
        # As in the other claim: alone, a job meets whoever came before it under its own snapshot.
        return await _claim(database, values | {"slots": 1})


async def next_due(database: Database, queues: Sequence[str] | None) -> float | None:
    """Seconds until the next scheduled job of these queues is due or a cool-down ends; None: nothing is
    known to come. Jobs with a partition key are not looked for.
    """
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(_limits.next_due), {"queues": None if queues is None else list(queues)}
        )
        [[seconds]] = await cursor.fetchall()
    return None if seconds is None else float(seconds)


async def _claim(database: Database, values: dict[str, Any]) -> LimitedClaim:
    async with database.transaction() as connection:
        rule = await _lock(database, connection, values)
        if rule is None:
            return LimitedClaim(jobs=[], busy=True)
        cursor = await execute_long(connection, database.sql(statements.choose), values)
        [[ids, last_key, again_in]] = await cursor.fetchall()
        if not ids:
            return LimitedClaim(jobs=[], again_in=again_in, last_key=last_key or "")
        cursor = await connection.execute(database.sql(statements.claim_chosen), values | {"ids": ids})
        jobs = jobs_of(await cursor.fetchall())
        await _spend(database, connection, values["queue"], rule, jobs)
    return LimitedClaim(jobs=jobs, again_in=again_in, last_key=last_key or "")


async def _lock(database: Database, connection: Connection, values: dict[str, Any]) -> tuple[Any, ...] | None:
    """The rates of the queue, whose row is now locked; None when another claimer has it, or it is paused."""
    for _ in range(2):
        cursor = await connection.execute(database.sql(_limits.lock_queue), values)
        rule: tuple[Any, ...] | None = await cursor.fetchone()
        if rule is not None:
            return rule
        cursor = await connection.execute(database.sql(_limits.know_queue), values)
        if not cursor.rowcount:
            break
    return None


async def _spend(
    database: Database, connection: Connection, queue: str, rule: Sequence[float | None], jobs: Sequence[Job]
) -> None:
    rate, rate_seconds, key_rate, key_rate_seconds = rule
    spent: dict[str | None, float] = defaultdict(float)
    for job in jobs:
        if rate is not None:
            spent[None] += job.weight
        if key_rate is not None and job.partition_key is not None:
            spent[job.partition_key] += job.weight
    if not spent:
        return
    values = {
        "queue": queue,
        "spent_keys": [*spent],
        "weights": [*spent.values()],
        "amounts": [rate if key is None else key_rate for key in spent],
        "windows": [rate_seconds if key is None else key_rate_seconds for key in spent],
    }
    await connection.execute(database.sql(_limits.spend), values)
