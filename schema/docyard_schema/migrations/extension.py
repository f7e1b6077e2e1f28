"""Finds pgvector in a database, or creates it, or says who can."""

from __future__ import annotations

import re
import zlib
from typing import Any

import psycopg
from psycopg import sql

from docyard_schema.errors import ExtensionMissing

MINIMUM = (0, 8, 0)
_LOCK = zlib.crc32(b"docyard creates pgvector")


async def find_vectors(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """The schema that holds the pgvector extension in this database; None when it is not created."""
    cursor = await connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension AS e "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def check_vectors(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise :class:`ExtensionMissing` unless pgvector is created in this database and new enough."""
    cursor = await connection.execute(
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector'"
    )
    row = await cursor.fetchone()
    if row is None:
        raise ExtensionMissing(
            f'The database "{connection.info.dbname}" does not have the extension pgvector.',
            hint="Run: docyard db migrate   (it creates the extension, or says who can)",
            operation="check schema",
        )
    _require_installed(row[0], connection)


async def ensure_vectors(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Create pgvector unless it is there, and check that its version will do.

    It goes into ``public``, where an application finds it too, or into ``schema`` when this user may not
    create in ``public``. Raises :class:`ExtensionMissing` naming the command and who can run it.
    """
    cursor = await connection.execute(
        "SELECT (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector'), "
        "(SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector')"
    )
    row = await cursor.fetchone()
    installed, offered = row or (None, None)
    if installed is not None:
        _require_installed(installed, connection)
    elif offered is None:
        raise _not_offered(connection)
    elif _too_old(offered):
        raise _old(
            f"The server offers pgvector {offered}",
            f"On the server, upgrade the package: {_package(connection)}; then run again: docyard db migrate",
        )
    else:
        await _create(connection, schema)


async def _create(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    try:
        async with connection.transaction():
            # IF NOT EXISTS does not wait for another who is creating it: without a lock one of two fails.
            await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", [_LOCK])
            if await find_vectors(connection) is not None:
                return
            cursor = await connection.execute(
                "SELECT coalesce(pg_catalog.has_schema_privilege("
                "pg_catalog.to_regnamespace('public')::oid, 'CREATE'), false)"
            )
            row = await cursor.fetchone()
            home = "public" if row is not None and row[0] else schema
            await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(home)))
            await connection.execute(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA {}").format(sql.Identifier(home))
            )
    except psycopg.errors.InsufficientPrivilege as error:
        name = connection.info.dbname
        raise ExtensionMissing(
            f'The user "{connection.info.user}" may not create the extension pgvector in the database '
            f'"{name}": {error.diag.message_primary}',
            hint="Let a superuser (on a managed service, its administrator) run: "
            f"psql -d '{name}' -c 'CREATE EXTENSION vector'   Then run again: docyard db migrate",
            operation="create extension",
        ) from error


def _require_installed(installed: str, connection: psycopg.AsyncConnection[Any]) -> None:
    if _too_old(installed):
        raise _old(
            f"This database has pgvector {installed}",
            "Let a superuser or the extension's owner run: "
            f"psql -d '{connection.info.dbname}' -c 'ALTER EXTENSION vector UPDATE'   "
            f"If the server offers no newer one, upgrade its package first: {_package(connection)}",
        )


def _too_old(version: str) -> bool:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) < MINIMUM


def _old(subject: str, hint: str) -> ExtensionMissing:
    needed = ".".join(map(str, MINIMUM))
    return ExtensionMissing(
        f"{subject}, docyard needs {needed} or newer.", hint=hint, operation="create extension"
    )


def _not_offered(connection: psycopg.AsyncConnection[Any]) -> ExtensionMissing:
    return ExtensionMissing(
        f"The Postgres server ({connection.info.server_version // 10000}) has no pgvector: vectors cannot be "
        "stored.",
        hint=f"On the server, install it: {_package(connection)} (managed services offer it under "
        "'extensions'); then run again: docyard db migrate. Without a URL docyard uses its embedded "
        "database, which has it.",
        operation="create extension",
    )


def _package(connection: psycopg.AsyncConnection[Any]) -> str:
    major = connection.info.server_version // 10000
    return f"apt-get install postgresql-{major}-pgvector (or your system's package)"
