"""What is said when a connection cannot be opened: where to, why not, and what mends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from docyard_schema.connection_string import describe, mask_password
from docyard_schema.errors import ConnectionRejected, DatabaseUnavailable

if TYPE_CHECKING:
    import psycopg


class _Reason(NamedTuple):
    pattern: str
    meaning: str
    remedy: str
    # Whether the same attempt may succeed later with nothing changed.
    passes: bool = False


# What the server or libpq says (a failed connection has no SQLSTATE in psycopg), and what mends it. The first
# that matches counts: an attempt at several addresses tells several failures, the most telling stand first.
_REASONS = (
    _Reason(
        r"password authentication failed|no password supplied|password cannot be empty|SCRAM",
        "the server did not accept the user or password",
        "Check user and password in DOCYARD_DATABASE_URL, or in libpq's password file (~/.pgpass).",
    ),
    _Reason(
        r'database "(?P<name>[^"]*)" does not exist',
        "the server has no such database",
        "Create it: createdb {name}   (or: psql -d postgres -c 'CREATE DATABASE \"{name}\"'), "
        "then: docyard db migrate",
    ),
    _Reason(
        r'role "(?P<name>[^"]*)" does not exist',
        "the server has no such user",
        "Create it: createuser --pwprompt {name}   or name another user in DOCYARD_DATABASE_URL.",
    ),
    _Reason(
        r'role "(?P<name>[^"]*)" is not permitted to log in',
        "the user may not log in",
        'Let a superuser run: ALTER ROLE "{name}" LOGIN   or name another user in DOCYARD_DATABASE_URL.',
    ),
    _Reason(
        r'permission denied for database "(?P<name>[^"]*)"',
        "the user may not connect to this database",
        'Let the database\'s owner run: GRANT CONNECT ON DATABASE "{name}" TO the user.',
    ),
    _Reason(
        r"does not support SSL|does not support TLS",
        "TLS is demanded and the server offers none",
        "Turn TLS on at the server (ssl = on), or, on a network you trust, set DOCYARD_TLS_MODE=prefer.",
    ),
    _Reason(
        r"no pg_hba\.conf entry",
        "the server's pg_hba.conf does not let this host or user in",
        "Let the server's administrator add a line for it, or connect with TLS: DOCYARD_TLS_MODE=require.",
    ),
    _Reason(
        r"\w+ authentication failed for user",
        "the server did not accept the user",
        "Check the user in DOCYARD_DATABASE_URL and the server's pg_hba.conf: no password is asked for here.",
    ),
    _Reason(
        r"certificate|SSL error|SSL connection|channel binding",
        "no TLS connection could be made",
        "Check DOCYARD_TLS_MODE, DOCYARD_TLS_ROOT_CERTIFICATE and the server's certificate.",
    ),
    _Reason(
        r"could not translate host name|Name or service not known|nodename nor servname|resolve host"
        r"|No address associated|Temporary failure in name resolution",
        "the host name is not known",
        "Check the host in DOCYARD_DATABASE_URL: getent hosts NAME shows what this machine knows.",
        passes=True,  # a name service may be late, as when containers start together
    ),
    _Reason(
        r"unsupported startup parameter",
        "the pooler between does not take start-up options",
        "Set DOCYARD_POOLER=transaction, and DOCYARD_DIRECT_DATABASE_URL to the server itself.",
    ),
    _Reason(
        r"too many (clients|connections)|(remaining )?connection slots|no more connections allowed",
        "the server has no connection left",
        "Lower DOCYARD_POOL_MAX_SIZE, put a pooler between, or raise the server's max_connections.",
        passes=True,
    ),
    _Reason(
        r"the database system is|not (currently|yet) accepting connections",
        "the server is starting or stopping",
        "Try again in a moment; the server's log says what it is doing.",
        passes=True,
    ),
    _Reason(
        r"invalid response|expected authentication request|unexpected message|received \S+ response",
        "what answers there is not a Postgres server",
        "Check host and port in DOCYARD_DATABASE_URL.",
    ),
    _Reason(
        r"\bsocket\b.*Permission denied",
        "this user may not use the server's socket",
        "Check the mode of the socket's folder, or connect over TCP (host=localhost).",
    ),
    _Reason(
        r"refused|No such file or directory|timeout|timed out|unreachable|No route|closed the connection"
        r"|reset by",
        "no server answers there",
        "Start the server (pg_isready -h HOST -p PORT asks for it), or check host and port in "
        "DOCYARD_DATABASE_URL. Without a URL docyard uses its embedded database.",
        passes=True,
    ),
)
_UNKNOWN = _Reason(
    "", "the connection failed", "Check DOCYARD_DATABASE_URL and the server's log.", passes=True
)


def unavailable(error: psycopg.Error, url: str) -> DatabaseUnavailable:
    """The error for a connection that could not be opened.

    A :class:`ConnectionRejected` when waiting will not help. ``details["reason"]`` holds Postgres's words,
    ``details["meaning"]`` what they come to.
    """
    said = mask_password(str(error)).strip()
    reason, names = _UNKNOWN, {}
    for candidate in _REASONS:
        if match := re.search(candidate.pattern, said):
            reason, names = candidate, match.groupdict()
            break
    kind = DatabaseUnavailable if reason.passes else ConnectionRejected
    return kind(
        f"Cannot connect to {describe(url)}: {reason.meaning}.\nPostgres said: {said}",
        # Not format(): a name may hold braces.
        hint=reason.remedy.replace("{name}", names.get("name", "")),
        operation="connect",
        reason=said,
        meaning=reason.meaning,
    )
