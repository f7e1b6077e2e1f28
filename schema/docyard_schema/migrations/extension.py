"""Finds pgvector in a database, or creates it, or says who can."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from docyard_schema.errors import ExtensionMissing

MINIMUM = (0, 8, 0)


async def find_vectors(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """The schema that holds the pgvector extension in this database; None when it is not created."""
    cursor = await connection.execute(
        "SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def ensure_vectors(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Create pgvector unless it is there, and check that its version will do.

    It goes into ``public``, where an application finds it too, or into ``schema`` when this user may not
    create in ``public``. Raises :class:`ExtensionMissing` naming the command and who can run it.
    """
    cursor = await connection.execute(
        "SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'vector'"
    )
    row = await cursor.fetchone()
    if row is None:
        raise await _not_installed(connection)
    installed, available = row
    if installed is None:
        _require(available, "The server offers", "Upgrade the server's pgvector package, then try again.")
        await _create(connection, schema)
    else:
        _require(
            installed,
            "This database has",
            f"Upgrade the server's pgvector package if needed (it offers {available}), then run, as the "
            "extension's owner: ALTER EXTENSION vector UPDATE;",
        )


async def _create(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    cursor = await connection.execute(
        "SELECT coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false)"
    )
    row = await cursor.fetchone()
    home = "public" if row is not None and row[0] else schema
    try:
        async with connection.transaction():
            await connection.execute(
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(home))
            )
            await connection.execute(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA {}").format(sql.Identifier(home))
            )
    except psycopg.errors.InsufficientPrivilege as error:
        name = connection.info.dbname
        raise ExtensionMissing(
            f'The user "{connection.info.user}" may not create the extension pgvector in the database '
            f'"{name}": {error.diag.message_primary}',
            hint=f"Let a superuser or the database's owner run: psql -d {name} -c 'CREATE EXTENSION vector' "
            "— then run again: docyard db migrate",
            operation="create extension",
        ) from error
    except psycopg.errors.UniqueViolation:
        # Two processes created it at once (IF NOT EXISTS does not wait for the other); it is there.
        return


async def _not_installed(connection: psycopg.AsyncConnection[Any]) -> ExtensionMissing:
    major = connection.info.server_version // 10000
    return ExtensionMissing(
        f"The Postgres server ({major}) has no pgvector: vectors cannot be stored.",
        hint=f"On the server: apt-get install postgresql-{major}-pgvector (or your system's package; managed "
        "services offer it under 'extensions'), then run again: docyard db migrate. "
        "Without a URL docyard uses its embedded database, which has it.",
        operation="create extension",
    )


def _require(version: str, subject: str, hint: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if numbers < MINIMUM:
        needed = ".".join(map(str, MINIMUM))
        raise ExtensionMissing(
            f"{subject} pgvector {version}, docyard needs {needed} or newer.",
            hint=hint,
            operation="create extension",
        )
