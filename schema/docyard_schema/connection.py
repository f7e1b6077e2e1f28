"""How a connection to Postgres is opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from docyard_schema.connection_string import read
from docyard_schema.errors import DatabaseError

if TYPE_CHECKING:
    from docyard_schema.settings import DatabaseSettings

OLDEST_SERVER = 15

_named = (0, "")


def session_name() -> str:
    """This process's ``application_name``: ``docyard`` and eight digits that no other process has.

    In pg_stat_activity it tells whose a session is; a worker that was lost is known by it (rescue.py).
    """
    global _named
    if _named[0] != os.getpid():
        _named = os.getpid(), f"docyard {os.urandom(4).hex()}"
    return _named[1]


def adopt_session_name(name: str) -> None:
    """Let this process's sessions bear a worker's name: what ends that worker's sessions ends these too."""
    global _named
    _named = os.getpid(), name


def connection_arguments(url: str, settings: DatabaseSettings, *, direct: bool = False) -> dict[str, Any]:
    """Keyword arguments for ``psycopg.connect``.

    What the URL says wins over docyard's defaults; a TLS setting that was made wins over the URL, so that
    ``verify-full`` cannot be lost in a copied one. ``direct`` is for connections that no transaction
    pooler stands before. Raises :class:`ConfigError` when ``url`` cannot be read.
    """
    given = read(url)
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, round(settings.pool_connect_seconds)),
        "application_name": session_name(),
        # A host that vanished is noticed within a minute, not after the kernel's two hours.
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    tls = {
        "sslmode": settings.tls_mode,
        "sslrootcert": settings.tls_root_certificate,
        "sslcert": settings.tls_certificate,
        "sslkey": settings.tls_key,
    }
    pooled = settings.pooler == "transaction" and not direct
    if settings.pool_statement_seconds and not pooled:
        limit = f"-c statement_timeout={round(settings.pool_statement_seconds * 1000)}"
        # PGOPTIONS would be lost behind ours; of two values the server takes the later one.
        given["options"] = f"{limit} {given.get('options') or os.environ.get('PGOPTIONS', '')}".strip()
    arguments = defaults | given | {name: str(value) for name, value in tls.items() if value is not None}
    arguments["autocommit"] = True
    if pooled:
        # The pooler gives each transaction another server, which has not prepared our statements.
        arguments["prepare_threshold"] = None
    return arguments


def require_version(server_version: int) -> None:
    """Raise :class:`DatabaseError` when a server, by libpq's number (150004 is 15.4), is too old."""
    major = server_version // 10000
    if major < OLDEST_SERVER:
        raise DatabaseError(
            f"docyard needs PostgreSQL {OLDEST_SERVER} or newer, this server is {major}.",
            hint="Upgrade the server (pg_upgrade, or your service's console), or leave the URL out to use "
            "the embedded database.",
            operation="connect",
        )
