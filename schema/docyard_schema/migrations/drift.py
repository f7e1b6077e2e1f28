"""Compares the schema that a database has with the one that its steps make."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import sql

from docyard_schema.answers import answering_within
from docyard_schema.errors import MigrationError
from docyard_schema.identifiers import new_id
from docyard_schema.migrations.event_rows import event_rows_are_written
from docyard_schema.migrations.ledger import right_to_migrate
from docyard_schema.migrations.steps_on_disk import load_steps
from docyard_schema.namespace import Namespace
from docyard_schema.statements import load_statements

_statements = load_statements("docyard_schema.migrations", "drift.sql")
_event_rows = load_statements("docyard_schema.migrations", "event_rows.sql")


async def snapshot(connection: psycopg.AsyncConnection[Any], schema: str) -> dict[str, str]:
    """Every column, constraint, index, function, trigger, view and type of ``schema``: name → definition.

    Partitions (one per embedding model) are data, not schema, and left out, as is the steps' own ledger.
    """
    # Under this path Postgres writes every name with its schema.
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = pg_catalog")
        cursor = await connection.execute(_statements.snapshot, {"schema": schema})
        return {name: definition or "" for name, definition in await cursor.fetchall()}


async def find_drift(connection: psycopg.AsyncConnection[Any], namespace: Namespace, *, to: int) -> list[str]:
    """What differs from a schema made afresh by steps 1 to ``to``, one sentence each; none is best.

    Event rows that are switched on are no difference; the triggers that write them are compared.
    The fresh schema is made in a transaction that is rolled back, so nothing is left and no lock on the
    real tables is held beyond reading the catalogue. Raises :class:`MigrationError` when this user may not
    create one.
    """
    fresh = Namespace(f"docyard_drift_{new_id().hex[-12:]}", namespace.vectors)
    try:
        with answering_within(connection, None):
            async with connection.transaction(force_rollback=True):
                actual = await snapshot(connection, namespace.schema)
                await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(fresh.schema)))
                await connection.execute("SET LOCAL statement_timeout = 0")
                for step in load_steps()[:to]:
                    await connection.execute(
                        sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(fresh.schema))
                    )
                    await connection.execute(fresh.sql(step.up))
                if await event_rows_are_written(connection, namespace):
                    await _write_event_rows(connection, fresh)
                expected = await snapshot(connection, fresh.schema)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f'The user "{connection.info.user}" may not make a schema to compare with: '
            f"{error.diag.message_primary}",
            hint=right_to_migrate(connection, namespace),
            operation="drift",
        ) from error
    return _differences(_renamed(expected, fresh.schema, namespace.schema), _renamed(actual))


async def _write_event_rows(connection: psycopg.AsyncConnection[Any], fresh: Namespace) -> None:
    cursor = await connection.execute(_event_rows.can_record_events, {"schema": fresh.schema})
    [known] = await cursor.fetchone() or [False]
    # Not at a step before them: then triggers of that name are somebody's own.
    if known:
        await connection.execute(fresh.sql(_event_rows.record_events), {"wanted": True})


def _renamed(found: dict[str, str], old: str = "", new: str = "") -> dict[str, str]:
    # The fresh name occurs nowhere else; the real one might (a schema "job", an alias "job"), and stays as it
    # is. Quotes go, for Postgres writes them where they are needed and our steps always.
    swap = re.compile(rf"\b{re.escape(old)}\b") if old else None
    # pgvector may be in docyard's own schema, where the two copies would say two names.
    vectors = re.compile(r"[\w]+\.(?=(?:half|sparse)?vec(?:tor)?\b)")
    told = {}
    for name, definition in found.items():
        texts = [swap.sub(new, text) if swap else text for text in (name, definition)]
        told[texts[0].replace('"', "")] = vectors.sub("pgvector.", texts[1].replace('"', ""))
    return told


def _differences(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    found = [f"missing: {name}" for name in expected if name not in actual]
    found += [f"not ours: {name}" for name in actual if name not in expected]
    found += [
        f"changed: {name}\n  expected {expected[name]}\n  found    {actual[name]}"
        for name in expected
        if name in actual and actual[name] != expected[name]
    ]
    return sorted(found)
