"""Who looks sees what was spent; only a worker reserves and writes it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import opened
from psycopg import errors

from docyard_schema.embeddings.spend import Settlement, SpendPart, list_spend, reserve_spend, settle_spend
from docyard_schema.embeddings.sweep import plan_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

FORBIDDEN = [
    "SELECT * FROM docyard.spending",
    "INSERT INTO docyard.spending VALUES (now(), 'm', 'c', 1, 1, 1)",
    "UPDATE docyard.spend SET cost = 0",
    "DELETE FROM docyard.spend_holds",
    "UPDATE docyard.spend_ceilings SET ceiling = 1000",
    "SELECT docyard.reserve_budget('a', '{}', '{}')",
    "SELECT docyard.reserve_spend('a', '{}', '{}', 1, 1)",
    "UPDATE docyard.embedding_sweeps SET after_chunk = 0",
]


@pytest.mark.parametrize("role", ["producer", "viewer", "operator", ""])
def test_nobody_else_reserves_or_changes_what_was_spent(as_member: Callable[[str], str], role: str) -> None:
    for statement in FORBIDDEN:
        with psycopg.connect(as_member(role)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


async def test_a_worker_spends_and_a_viewer_sees_it(as_member: Callable[[str], str]) -> None:
    async with opened(as_member("worker")) as database:
        verdict = await reserve_spend(database, "a", {"tokens": 1}, cost=Decimal(1), ceiling=Decimal(2))
        part = SpendPart(collection="c", requests=1, tokens=5, cost=Decimal(1))
        await settle_spend(
            database,
            Settlement(account="a", model="m", day=verdict.today, hold=verdict.hold, parts=[part]),
        )
        assert await plan_sweep(database, kinds=["embed"], queues=["embed"]) == []
    async with opened(as_member("viewer")) as database:
        assert [(row.model, row.cost) for row in await list_spend(database)] == [("m", Decimal(1))]
