"""The folder of a server's socket: short enough for a socket's address, closed to other users."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from docyard_schema.embedded.postmaster import SOCKET_FILES, SOCKET_PREFIX

if TYPE_CHECKING:
    from docyard_schema.embedded.account import Account

# An address holds 107 bytes on Linux and 103 on macOS; mkdtemp adds eight to the prefix.
_ADDRESS_BYTES = 103
_OWN_BYTES = len(f"/{SOCKET_PREFIX}12345678/{SOCKET_FILES[0]}")
# Variables of libpq that would lead elsewhere, or demand what a local socket cannot give.
_OVERRULED = {
    "PGHOSTADDR": ("hostaddr", ""),
    "PGGSSENCMODE": ("gssencmode", "disable"),
    "PGCHANNELBINDING": ("channel_binding", "disable"),
    "PGREQUIREAUTH": ("require_auth", ""),
    "PGTARGETSESSIONATTRS": ("target_session_attrs", "any"),
}


def make_socket_folder(account: Account, former: Path | None) -> Path:
    """A folder, mode 0700, owned by the account.

    The folder of a crashed server is taken again: others still have connections to make there.
    """
    if former is not None and _is_ours(former, account):
        for name in SOCKET_FILES:
            (former / name).unlink(missing_ok=True)
        return former
    folder = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=_place(account)))
    account.give(folder)
    return folder


def address(sockets: Path, database: str) -> str:
    """How psycopg reaches a database; what the environment says of other servers does not apply."""
    misleading = {_OVERRULED[name] for name in _OVERRULED.keys() & os.environ.keys()}
    return make_conninfo(
        host=str(sockets), port=5432, user="postgres", dbname=database, **dict(sorted(misleading))
    )


def _place(account: Account) -> Path:
    system = Path(tempfile.gettempdir()).resolve()
    too_long = len(os.fsencode(system)) + _OWN_BYTES > _ADDRESS_BYTES
    # Both the server and its clients read a comma, and the server a quote, as punctuation of a list.
    if too_long or set(str(system)) & set(",\"'\\") or account.blocked_at([*system.parents, system]):
        return Path("/tmp")  # noqa: S108
    return system


def _is_ours(folder: Path, account: Account) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    named = folder.name.startswith(SOCKET_PREFIX)
    return named and folder.is_dir() and found.st_uid == account.uid and found.st_mode & 0o777 == 0o700
