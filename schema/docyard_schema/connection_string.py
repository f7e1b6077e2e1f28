"""Connection strings: read with care, and told to people without their secrets."""

from __future__ import annotations

import getpass
import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from docyard_schema.errors import ConfigError

_SECRETS = ("password", "sslpassword")


def read(url: str) -> dict[str, str]:
    """The parameters of a URL or of libpq's ``key=value`` form.

    Raises :class:`ConfigError` when libpq cannot read it, or reads into it what nobody meant: a password
    with a bare ``@`` or ``/`` moves into the host, the port or the database's name, and would be told
    there by every message. Nothing of such a string is repeated.
    """
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        # libpq quotes the piece that it stumbled over, which may be the password.
        raise _unreadable(re.sub(r'".*"', '"…"', str(error).strip(), flags=re.DOTALL)) from None
    if "://" in url and (
        "@" in given.get("host", "")
        or ("@" in given.get("dbname", "") and "user" not in given)
        or not re.fullmatch(r"[\d,]*", given.get("port", ""))
    ):
        raise _unreadable("user, password and host cannot be told apart")
    return given


def describe(url: str) -> str:
    """Where a URL points, without its password: ``database "app" at db.example:5432 as alice``."""
    try:
        given = read(url)
    except ConfigError:
        return "a database URL that cannot be read"
    if "service" in given:
        return f'the service "{given["service"]}"'
    user = given.get("user") or _login_name()
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    return f'database "{given.get("dbname") or user}" at {host}:{given.get("port") or 5432} as {user}'


def masked(url: str) -> str:
    """The connection string with its password replaced by ``***``, in libpq's ``key=value`` form."""
    try:
        given = read(url)
    except ConfigError:
        return "***"
    return make_conninfo("", **{name: "***" if name in _SECRETS else value for name, value in given.items()})


def mask_password(text: str) -> str:
    """``text`` with anything that looks like a password in a URL or connection string masked."""
    # To the last "@" of the word: masking too much is better than half a password.
    text = re.sub(r"(?<=://)([^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(password\s*=\s*)('(?:\\.|[^'\\])*'|[^\s&]+)", r"\1***", text, flags=re.IGNORECASE)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "?"


def _unreadable(why: str) -> ConfigError:
    return ConfigError(
        f"The database URL cannot be read: {why}.",
        hint="Expected postgresql://user:password@host:5432/database, or libpq's key=value form. Special "
        "characters in a user or password are written percent-encoded ('@' as %40, '/' as %2F, '%' as %25): "
        "python -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'",
        operation="connect",
    )
