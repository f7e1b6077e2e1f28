"""Refuses to take back a step whose tables have rows that cannot be computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from docyard_schema.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from docyard_schema.migrations.steps_on_disk import Step
    from docyard_schema.namespace import Namespace


async def refuse_loss(
    connection: psycopg.AsyncConnection[Any],
    namespace: Namespace,
    steps: Iterable[Step],
    *,
    locked: bool = False,
) -> None:
    """Raise :class:`MigrationError` when taking ``steps`` back would lose rows, naming their tables.

    With ``locked`` the tables are locked first, so that no row comes between this answer and the end of the
    caller's transaction.
    """
    tables = {table for step in steps if step.is_base for table in step.tables}
    cursor = await connection.execute(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) "
        "AND relname = ANY (%s) ORDER BY relname",
        [namespace.schema, list(tables)],
    )
    full = []
    for (table,) in await cursor.fetchall():
        name = sql.Identifier(namespace.schema, table)
        if locked:
            await connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        cursor = await connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(name))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            full.append(table)
    if full:
        raise MigrationError(
            f"Rolling back would lose the rows of: {', '.join(full)}.",
            hint=f"{'' if locked else 'Nothing was changed. '}Make a copy first (pg_dump), then say "
            "--destroy to lose them.",
            operation="rollback",
            tables=full,
        )
