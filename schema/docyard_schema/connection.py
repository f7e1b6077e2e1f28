"""How a connection to Postgres is opened, and what is said when it cannot be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from docyard_schema.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from docyard_schema.settings import DatabaseSettings

# What the server or libpq says (a failed connection has no SQLSTATE in psycopg), and what mends it.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"password authentication failed|no password supplied|SCRAM",
        "the server did not accept the user or password",
        "Check user and password in DOCYARD_DATABASE_URL, or in the password file that libpq reads.",
    ),
    (
        r'database "(?P<name>[^"]*)" does not exist',
        "the server has no such database",
        "Create it: createdb {name}   (or: psql -c 'CREATE DATABASE {name}'), then: docyard db migrate",
    ),
    (
        r'role "(?P<name>[^"]*)" does not exist',
        "the server has no such user",
        "Create it: createuser --pwprompt {name}   or name another user in DOCYARD_DATABASE_URL.",
    ),
    (
        r"no pg_hba\.conf entry",
        "the server's pg_hba.conf does not let this host or user in",
        "Let the server's administrator add a line for it, or connect with TLS (tls_mode = 'require').",
    ),
    (
        r"could not translate host name|Name or service not known|nodename nor servname|resolve host",
        "the host name is not known",
        "Check the host in DOCYARD_DATABASE_URL.",
    ),
    (
        r"certificate|SSL error|does not support SSL|server does not support SSL",
        "no TLS connection could be made",
        "Check tls_mode, tls_root_certificate and the server's certificate.",
    ),
    (
        r"too many (clients|connections)|remaining connection slots",
        "the server has no connection left",
        "Lower DOCYARD_POOL_MAX_SIZE, put a pooler between, or raise the server's max_connections.",
    ),
    (
        r"refused|No such file or directory|timeout|timed out|unreachable|the database system is",
        "no server answers there",
        "Start the server, or check host and port in DOCYARD_DATABASE_URL. "
        "Without a URL docyard uses its embedded database.",
    ),
)


def connection_arguments(url: str, settings: DatabaseSettings, *, direct: bool = False) -> dict[str, Any]:
    """Keyword arguments for ``psycopg.connect``: the URL's own win over docyard's defaults.

    ``direct`` is for connections that no transaction pooler stands before. Raises :class:`ConfigError`
    when ``url`` is not a URL or connection string that libpq understands.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"The database URL cannot be read: {mask_password(str(error)).strip()}",
            hint="Expected postgresql://user:password@host:5432/database, or libpq's key=value form. "
            "Special characters in a password are written percent-encoded.",
        ) from None
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, round(settings.pool_connect_seconds)),
        "application_name": "docyard",
        # A host that vanished is noticed within a minute, not after the kernel's two hours.
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    for name, value in (
        ("sslmode", settings.tls_mode),
        ("sslrootcert", settings.tls_root_certificate),
        ("sslcert", settings.tls_certificate),
        ("sslkey", settings.tls_key),
    ):
        if value is not None:
            defaults[name] = str(value)
    pooled = settings.pooler == "transaction" and not direct
    if settings.pool_statement_seconds and not pooled:
        limit = f"-c statement_timeout={round(settings.pool_statement_seconds * 1000)}"
        given["options"] = f"{limit} {given.get('options', '')}".strip()
    arguments = defaults | given
    arguments["autocommit"] = True
    if pooled:
        arguments["prepare_threshold"] = None
    return arguments


def unavailable(error: psycopg.Error, url: str) -> DatabaseUnavailable:
    """The error for a connection that could not be opened: where, why, and what mends it."""
    said = mask_password(str(error)).strip()
    reason, hint = "the connection failed", "Check DOCYARD_DATABASE_URL and the server's log."
    for pattern, meaning, remedy in _REASONS:
        if match := re.search(pattern, said):
            reason, hint = meaning, remedy.format(**match.groupdict())
            break
    return DatabaseUnavailable(
        f"Cannot connect to {describe(url)}: {reason}.\nPostgres said: {said}",
        hint=hint,
        operation="connect",
        reason=said,
    )


def describe(url: str) -> str:
    """Where a URL points, without its password: ``database "app" at db.example:5432 as alice``."""
    given = conninfo_to_dict(url)
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    user = f" as {given['user']}" if given.get("user") else ""
    return f'database "{given.get("dbname", "")}" at {host}:{given.get("port") or 5432}{user}'


def masked(url: str) -> str:
    """The connection string with its password replaced by ``***``."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "***"
    if "password" in given:
        given["password"] = "***"  # noqa: S105 - the mask, not a password
    return make_conninfo("", **given)


def mask_password(text: str) -> str:
    """``text`` with anything that looks like a password in a URL or connection string masked."""
    text = re.sub(r"(?<=://)([^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(password\s*=\s*)('[^']*'|\S+)", r"\1***", text)
