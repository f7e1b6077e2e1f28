"""Roles with the least rights: who only enqueues, who works, who looks, who steps in.

Roles belong to the whole server and log nobody in; a user gets their rights by ``GRANT docyard_worker TO
app``. What each may do is written here and nowhere else, and a test tries to do more as each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from docyard_schema.errors import ConfigError, DatabaseError
from docyard_schema.migrations.ledger import check_version
from docyard_schema.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docyard_schema.namespace import Namespace

ROLES = {
    "docyard_producer": "adds jobs with docyard.enqueue, and reads nothing",
    "docyard_worker": "runs jobs: reads and writes rows, and changes no table",
    "docyard_viewer": "reads the views, which show no payload",
    "docyard_operator": "reads the views; retries and cancels jobs, pauses and limits queues",
}
_PRODUCER, _WORKER, _VIEWER, _OPERATOR = (sql.Identifier(role) for role in ROLES)
_EVERYBODY = sql.SQL(", ").join([sql.SQL("PUBLIC"), *(sql.Identifier(role) for role in ROLES)])

# What retry, cancel and explain read and write of a job (docyard_queue: inspection, selection, explain): all
# of it but what the job is about, its payload, result and progress.
_OPERATED = (
    "GRANT SELECT (id, task_name, queue_name, priority, status, lock, queueing_lock, scheduled_at, attempts, "
    "max_attempts, lease, worker_id, abort_requested, batch_id, created_at, started_at, finished_at, "
    "error_code, error_message, partition_key, weight, counted, parked), UPDATE (status, attempts, alone, "
    "began_alone, abort_requested, worker_id, finished_at, scheduled_at, error_code, error_message, "
    "queueing_lock, counted) ON {jobs} TO {operator}"
)
# Pausing, resuming and cancelling a batch; its callback is a payload too.
_OPERATED_BATCHES = (
    "GRANT SELECT (id, label, paused, cancelled_at, finished_at, created_at), UPDATE (paused, cancelled_at) "
    "ON {batches} TO {operator}"
)

_statements = load_statements("docyard_schema", "roles.sql")


async def grant_roles(
    connection: psycopg.AsyncConnection[Any], namespace: Namespace, *, dry_run: bool = False
) -> list[str]:
    """Make the roles that are missing and give each its rights on this schema, and no other; the statements.

    Rights that somebody else gave these roles or PUBLIC on docyard's objects are taken away. The grants are
    one transaction, so nobody at work notices. With ``dry_run`` nothing is done. ``connection`` is in
    autocommit. Raises :class:`SchemaMismatch` unless the schema is up to date, and :class:`DatabaseError`
    naming who can do it when this user may not.
    """
    if namespace.schema == "public":
        raise ConfigError(
            'Roles cannot be granted on the schema "public": others have their tables in it too.',
            hint="Give docyard a schema of its own (DOCYARD_SCHEMA).",
            operation="roles",
        )
    await check_version(connection, namespace)
    made = [
        sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)) for role in await _missing(connection)
    ]
    grants = await _grants(connection, namespace)
    if not dry_run:
        await _require_owner(connection, namespace)
        try:
            for statement in made:
                await _make(connection, statement)
            async with connection.transaction():
                # Two at once would write the same rows of the catalogue, and one of them fail.
                await connection.execute(_statements.one_at_a_time)
                for statement in grants:
                    await connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _refused(connection, error, made) from error
    return [statement.as_string(connection) for statement in [*made, *grants]]


async def _make(connection: psycopg.AsyncConnection[Any], statement: sql.Composed) -> None:
    try:
        await connection.execute(statement)
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # another has made it since we looked


async def _missing(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    cursor = await connection.execute(_statements.missing_roles, {"roles": list(ROLES)})
    return [name for (name,) in await cursor.fetchall()]


async def _grants(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> list[sql.Composed]:
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = pg_catalog")
        cursor = await connection.execute(_statements.objects, {"schema": namespace.schema})
        found: dict[str, list[str]] = {}
        for sort, name in await cursor.fetchall():
            found.setdefault(sort, []).append(name)

    def all_of(*sorts: str) -> sql.SQL:
        # Names as the server itself wrote and quoted them.
        return sql.SQL(", ".join(name for sort in sorts for name in found.get(sort, [])))

    schema, ledger = sql.Identifier(namespace.schema), sql.Identifier(namespace.schema, "schema_migrations")
    every_function = all_of("function", "viewed", "limits", "enqueue")
    lines: Sequence[tuple[str, sql.SQL]] = [
        ("REVOKE ALL ON SCHEMA {schema} FROM {everybody}", sql.SQL("")),
        ("REVOKE ALL ON TABLE {those} FROM {everybody}", all_of("table", "view")),
        ("REVOKE ALL ON SEQUENCE {those} FROM {everybody}", all_of("sequence")),
        (
            "REVOKE ALL ON FUNCTION {those} FROM {everybody}",
            all_of("function", "viewed", "limits", "enqueue"),
        ),
        ("GRANT USAGE ON SCHEMA {schema} TO {producer}, {worker}, {viewer}, {operator}", sql.SQL("")),
        ("GRANT EXECUTE ON FUNCTION {those} TO {producer}", all_of("enqueue")),
        ("GRANT SELECT ON TABLE {those}, {ledger} TO {viewer}, {operator}", all_of("view")),
        ("GRANT EXECUTE ON FUNCTION {those} TO {viewer}, {operator}", all_of("viewed")),
        (_OPERATED, sql.SQL("")),
        (_OPERATED_BATCHES, sql.SQL("")),
        ("GRANT {rows} ON TABLE {budgets} TO {operator}", sql.SQL("")),
        ("GRANT SELECT ON TABLE {cool_downs} TO {operator}", sql.SQL("")),
        ("GRANT EXECUTE ON FUNCTION {those} TO {operator}", all_of("limits")),
        ("GRANT SELECT ON TABLE {workers} TO {operator}", sql.SQL("")),
        ("GRANT SELECT, INSERT, UPDATE ON TABLE {queues} TO {operator}", sql.SQL("")),
        ("GRANT {rows} ON TABLE {those} TO {worker}", all_of("table")),
        ("REVOKE INSERT, UPDATE, DELETE ON TABLE {ledger} FROM {worker}", sql.SQL("")),
        ("GRANT SELECT ON TABLE {those} TO {worker}", all_of("view")),
        ("GRANT USAGE, SELECT ON SEQUENCE {those} TO {worker}", all_of("sequence")),
        ("GRANT EXECUTE ON FUNCTION {those} TO {worker}", every_function),
        # For partitions of models to come.
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {rows} ON TABLES TO {worker}", sql.SQL("")),
    ]
    names: dict[str, sql.Composable] = {
        "rows": sql.SQL("SELECT, INSERT, UPDATE, DELETE"),
        "schema": schema, "ledger": ledger, "everybody": _EVERYBODY, "producer": _PRODUCER, "worker": _WORKER,
        "viewer": _VIEWER, "operator": _OPERATOR, "queues": sql.Identifier(namespace.schema, "queues"),
        "jobs": sql.Identifier(namespace.schema, "procrastinate_jobs"),
        "batches": sql.Identifier(namespace.schema, "batches"),
        "budgets": sql.Identifier(namespace.schema, "budgets"),
        "cool_downs": sql.Identifier(namespace.schema, "cool_downs"),
        "workers": sql.Identifier(namespace.schema, "procrastinate_workers"),
    }  # fmt: skip
    return [sql.SQL(line).format(those=those, **names) for line, those in lines]


async def _require_owner(connection: psycopg.AsyncConnection[Any], namespace: Namespace) -> None:
    cursor = await connection.execute(_statements.owners, {"schema": namespace.schema})
    owner, is_owner = (await cursor.fetchall())[0]
    if not is_owner:
        raise DatabaseError(
            f'The user "{connection.info.user}" may not grant rights on the schema "{namespace.schema}" in '
            f'database "{connection.info.dbname}": it belongs to "{owner}".',
            hint=f'As "{owner}" run: docyard db roles',
            operation="roles",
        )


def _refused(
    connection: psycopg.AsyncConnection[Any], error: psycopg.Error, made: Sequence[sql.Composed]
) -> DatabaseError:
    database, user = connection.info.dbname, connection.info.user
    commands = "; ".join(statement.as_string(connection) for statement in made)
    return DatabaseError(
        f'The user "{user}" may not make roles: {error.diag.message_primary}',
        hint="Let a superuser (on a managed service, its administrator) run: "
        f"psql -d '{database}' -c '{commands}'   Then run again: docyard db roles",
        operation="roles",
        reason=error.diag.message_primary or "",
    )
