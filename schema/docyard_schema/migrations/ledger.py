"""Which steps a database has: the table ``schema_migrations``, read against the steps of this code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from docyard_schema.errors import MigrationError, SchemaMismatch
from docyard_schema.migrations.steps_on_disk import Step, load_steps

if TYPE_CHECKING:
    from docyard_schema.namespace import Namespace

_LEDGER = """
CREATE TABLE docyard.schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """What a database has and what this code would still apply."""

    applied: tuple[Step, ...]
    pending: tuple[Step, ...]

    @property
    def version(self) -> int:
        """The number of the last applied step; 0 for an empty database."""
        return self.applied[-1].number if self.applied else 0


async def migration_status(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> MigrationStatus:
    """Compare the ledger in the database with the steps of this code; changes nothing.

    Raises :class:`MigrationError` naming the file when an applied step was edited since, and
    :class:`SchemaMismatch` when the database has steps that this code does not know.
    """
    steps = load_steps()
    recorded = await _read(connection, namespace)
    for number, (name, checksum) in sorted(recorded.items()):
        if number > len(steps):
            raise SchemaMismatch(
                f"The database has schema step {number:04}_{name}; this docyard knows {len(steps)} steps.",
                hint="Upgrade docyard here (pip install --upgrade docyard), or take the newer steps back "
                f"with the newer version: docyard db rollback --to {len(steps)}",
                operation="check schema",
            )
        step = steps[number - 1]
        if (step.name, step.checksum) != (name, checksum):
            raise MigrationError(
                f"Schema step {step.filename} was edited after it was applied: its sha256 is "
                f"{step.checksum[:12]}…, the database recorded {checksum[:12]}… ({name}).",
                hint="Restore the file as it was, and write the change as a new step.",
                operation="check schema",
            )
    return MigrationStatus(
        applied=tuple(step for step in steps if step.number in recorded),
        pending=tuple(step for step in steps if step.number not in recorded),
    )


async def check_version(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> None:
    """Raise :class:`SchemaMismatch` unless the database has exactly the steps of this code."""
    status = await migration_status(connection, namespace)
    if status.pending:
        state = (
            f"is at step {status.version} of {len(load_steps())}" if status.applied else "is not there yet"
        )
        raise SchemaMismatch(
            f'The schema "{namespace.schema}" in database "{connection.info.dbname}" {state}.',
            hint="Run: docyard db migrate   (or set DOCYARD_AUTO_MIGRATE=1)",
            operation="check schema",
        )


async def ensure_ledger(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> None:
    """Make the schema and its ledger unless they are there; the caller is the one migrator."""
    if await _exists(connection, namespace):
        return
    try:
        async with connection.transaction():
            cursor = await connection.execute(
                "SELECT to_regnamespace(quote_ident(%s)) IS NULL", [namespace.schema]
            )
            row = await cursor.fetchone()
            if row is not None and row[0]:
                await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(namespace.schema)))
            await connection.execute(namespace.sql(_LEDGER))
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f'The user "{connection.info.user}" may not make the schema "{namespace.schema}" in database '
            f'"{connection.info.dbname}": {error.diag.message_primary}',
            hint=right_to_migrate(connection, namespace),
            operation="migrate",
        ) from error


def record(namespace: Namespace, step: Step) -> sql.Composed:
    """The statement that enters a step."""
    return sql.SQL("INSERT INTO {} (number, name, sha256) VALUES ({}, {}, {})").format(
        sql.Identifier(namespace.schema, "schema_migrations"), step.number, step.name, step.checksum
    )


def erase(namespace: Namespace, step: Step) -> sql.Composed:
    """The statement that strikes a step out."""
    return sql.SQL("DELETE FROM {} WHERE number = {}").format(
        sql.Identifier(namespace.schema, "schema_migrations"), step.number
    )


def right_to_migrate(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> str:
    """What to do for a user who may not change the schema."""
    database, user = connection.info.dbname, connection.info.user
    return (
        f"Let the database's owner run: psql -d '{database}' -c 'GRANT CREATE ON DATABASE \"{database}\" TO "
        f'"{user}"\'   A schema that exists must belong to that user: ALTER SCHEMA "{namespace.schema}" '
        f'OWNER TO "{user}"   Then run again: docyard db migrate'
    )


async def _exists(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> bool:
    # The catalogue itself and not to_regclass(), which fails for a schema that one may not use.
    cursor = await connection.execute(
        "SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = 'schema_migrations'",
        [namespace.schema],
    )
    return await cursor.fetchone() is not None


async def _read(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> dict[int, tuple[str, str]]:
    if not await _exists(connection, namespace):
        return {}
    try:
        cursor = await connection.execute(
            namespace.sql("SELECT number, name, sha256 FROM docyard.schema_migrations")
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaMismatch(
            f'The user "{connection.info.user}" may not read the schema "{namespace.schema}": '
            f"{error.diag.message_primary}",
            hint=f"Let its owner run: psql -d '{connection.info.dbname}' -c "
            f'\'GRANT USAGE ON SCHEMA "{namespace.schema}" TO "{connection.info.user}"\' and grant the '
            "tables too, or connect as the owner.",
            operation="check schema",
        ) from error
    return {number: (name, checksum) for number, name, checksum in await cursor.fetchall()}
