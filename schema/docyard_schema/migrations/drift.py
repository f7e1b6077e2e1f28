"""Compares the schema that a database has with the one that its steps make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from psycopg import sql

from docyard_schema.identifiers import new_id
from docyard_schema.migrations.steps_on_disk import load_steps
from docyard_schema.namespace import Namespace
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    import psycopg

_statements = load_statements("docyard_schema.migrations", "drift.sql")


async def snapshot(connection: psycopg.AsyncConnection[Any], schema: str) -> dict[str, str]:
    """Every column, constraint, index, function, trigger, view and type of ``schema``: name → definition.

    The schema's own name is written ``docyard`` whatever it is, so snapshots of two schemas compare.
    Partitions (one per embedding model) are data, not schema, and left out.
    """
    await connection.execute("SET LOCAL search_path = pg_catalog")
    cursor = await connection.execute(_statements.snapshot, {"schema": schema})
    ours = re.compile(rf"(?<![\w.]){re.escape(schema)}(?=[.',])")
    return {
        ours.sub("docyard", name): ours.sub("docyard", definition or "")
        for name, definition in await cursor.fetchall()
    }


async def find_drift(connection: psycopg.AsyncConnection[Any], namespace: Namespace, *, to: int) -> list[str]:
    """What differs from a schema made afresh by steps 1 to ``to``, one sentence each; none is best.

    The fresh schema is made in a transaction that is rolled back, so nothing is left and no lock on the
    real tables is held beyond reading the catalogue.
    """
    fresh = Namespace(f"docyard_drift_{new_id().hex[-12:]}", namespace.vectors)
    expected: dict[str, str] = {}
    try:
        async with connection.transaction():
            actual = await snapshot(connection, namespace.schema)
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(fresh.schema)))
            await connection.execute(
                sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(fresh.schema))
            )
            for step in load_steps()[:to]:
                await connection.execute(fresh.sql(step.up))
            expected = await snapshot(connection, fresh.schema)
            raise _Rollback
    except _Rollback:
        pass
    return _differences(expected, actual)


class _Rollback(Exception):  # noqa: N818 - a way out, not an error
    """Leaves the transaction without a trace."""


def _differences(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    found = [f"missing: {name}" for name in expected if name not in actual]
    found += [f"not ours: {name}" for name in actual if name not in expected]
    found += [
        f"changed: {name}\n  expected {expected[name]}\n  found    {actual[name]}"
        for name in expected
        if name in actual and actual[name] != expected[name]
    ]
    return sorted(found)
