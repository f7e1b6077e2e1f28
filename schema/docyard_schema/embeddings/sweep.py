"""Finds the chunks that were left without a vector, and that no job is about to give one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - a row's field
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - a row's field

from psycopg.rows import class_row

from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.database import Connection, Database

_statements = load_statements("docyard_schema.embeddings", "sweep.sql")

# Failures that another request may not meet. All others are the text's own, and stay until it changes.
PASSING = (
    "not_finite",
    "zero_vector",
    "out_of_range",
    "provider_answer_invalid",
    "provider_unavailable",
    "timeout",
)
MOST_ATTEMPTS = 3
"""How often a text is tried in all that fails for one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Where a model's sweep begins, and what it leaves alone.

    Chunks up to ``migrated_to`` and from ``first_chunk`` to ``last_chunk`` (None: no such) are a migration's;
    documents written since ``horizon`` may have a job of their own, and ``swept`` ones have one.
    """

    model_id: int
    model: str
    state: str
    migrated_to: int
    after_chunk: int
    horizon: datetime
    first_chunk: int | None
    last_chunk: int | None
    swept: Sequence[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptPage:
    """Some chunks in the order of their ids; ``documents`` lack so many ``texts``, of those on this page.

    ``last_chunk`` is None, and ``examined`` 0, behind the last chunk.
    """

    examined: int
    last_chunk: int | None
    documents: Sequence[UUID]
    texts: Sequence[int]


async def plan_sweep(database: Database, *, kinds: Sequence[str], queues: Sequence[str]) -> list[SweepPlan]:
    """A plan for each model that is kept up to date; ``kinds`` of jobs in ``queues`` make its vectors."""
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(SweepPlan)
        values = {"kinds": list(kinds), "queues": list(queues)}
        await cursor.execute(database.sql(_statements.plan_sweep), values)
        return await cursor.fetchall()


async def find_lacking(database: Database, plan: SweepPlan, *, after: int, size: int) -> SweptPage:
    """Look at the next ``size`` chunks behind ``after``."""
    values = {
        "model": plan.model_id,
        "after": max(after, plan.migrated_to),
        "size": size,
        "horizon": plan.horizon,
        "first": plan.first_chunk,
        "last": plan.last_chunk,
        "passing": list(PASSING),
        "most": MOST_ATTEMPTS,
    }
    async with database.connection() as connection, connection.cursor() as cursor:
        cursor.row_factory = class_row(SweptPage)
        await cursor.execute(database.sql(_statements.find_lacking), values)
        page: SweptPage = (await cursor.fetchall())[0]
    return page


async def end_page(
    database: Database,
    plan: SweepPlan,
    documents: Sequence[UUID],
    *,
    after: int,
    connection: Connection,
) -> None:
    """Let ``documents`` try again, and the next sweep begin behind ``after``.

    In the transaction that enqueues their jobs.
    """
    values = {"model": plan.model_id, "after": after}
    if documents:
        passing = {"documents": list(documents), "passing": list(PASSING), "most": MOST_ATTEMPTS}
        await connection.execute(database.sql(_statements.forgive), values | passing)
    await connection.execute(database.sql(_statements.remember), values)
