"""Who runs the server: ourselves, or an unprivileged user when we are root, whom PostgreSQL refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from docyard_schema.embedded.home import WAYS_OUT, account_name
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from docyard_schema.embedded.home import Home

# Enough to walk through a closed folder. A container often may give only the second, wider one.
_CAPABILITIES = ("dac_read_search", "dac_override")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user to run programs as; ``capability`` lets it pass folders that are closed to it."""

    uid: int
    gid: int
    capability: str = ""

    def command(self, argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """The arguments for :mod:`subprocess` that run a program as this user, away from the terminal."""
        options: dict[str, Any] = {"cwd": "/", "env": _environment(), "start_new_session": True}
        if os.geteuid() != 0:
            return list(argv), options
        if self.capability:
            return [*self._with_capability(), *argv], options
        return list(argv), options | {"user": self.uid, "group": self.gid, "extra_groups": []}

    def detach(
        self, argv: Sequence[str], *, inherit: Sequence[int], output: int = subprocess.DEVNULL
    ) -> None:
        """Starts a program that outlives us; its parent becomes init, which reaps it."""
        # The shell takes the arguments as they are, so no path needs quoting, and leaves at once.
        command, options = self.command(["/bin/sh", "-c", '"$@" &', "sh", *argv])
        options |= {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        subprocess.run(command, check=True, pass_fds=inherit, **options)  # noqa: S603

    def _with_capability(self) -> list[str]:
        only = f"-all,+{self.capability}"
        return [
            shutil.which("setpriv") or "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            f"--inh-caps={only}",
            f"--ambient-caps={only}",
            f"--bounding-set={only}",
            "--securebits=+no_setuid_fixup",  # without it access(2) would ignore the capability
        ]

    def give(self, folder: Path) -> None:
        """Makes a folder of ours, and what is in it, the account's; only root can and needs to."""
        if os.geteuid() != 0:
            return
        os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(os.path.join(parent, name), self.uid, self.gid, follow_symlinks=False)  # noqa: PTH118

    def blocked_at(self, paths: Iterable[Path]) -> str:
        """The first of the paths this account may not enter or run, or nothing."""
        test = 'for path; do [ -x "$path" ] || { printf %s "$path"; exit 1; }; done'
        argv, options = self.command(["/bin/sh", "-c", test, "sh", *map(str, paths)])
        try:
            asked = subprocess.run(argv, capture_output=True, check=False, **options)  # noqa: S603
        except FileNotFoundError:
            return argv[0]  # no setpriv
        return os.fsdecode(asked.stdout or asked.stderr) if asked.returncode else ""


def account_for(home: Home, program: Path) -> Account:
    """The account that runs the server of a home, able to reach its data and the server's programs."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid())
    plain = _unprivileged(home)
    needed = [*_way_to(home.path), *_way_to(program)]
    blocked = plain.blocked_at(needed)
    if not blocked:
        return plain
    for capability in _CAPABILITIES:
        able = replace(plain, capability=capability)
        if not able.blocked_at(needed):
            return able
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and {account_name(plain.uid)}, who would run it, "
        f"cannot enter {blocked}.",
        hint=f"Run as an ordinary user, or open that folder (chmod o+x '{blocked}'), or move what is in it. "
        f"Or: {WAYS_OUT}",
        operation="embedded.account",
    )


def _unprivileged(home: Home) -> Account:
    import pwd

    # What exists decides first, so that a server made under sudo stays its owner's.
    for folder in (home.data_directory, home.path):
        if folder.exists() and folder.stat().st_uid != 0:
            return Account(uid=folder.stat().st_uid, gid=folder.stat().st_gid)
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=found.pw_uid, gid=found.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and this system has neither a user 'postgres' nor 'nobody'.",
        hint=f"Run as an ordinary user. Or: {WAYS_OUT}",
        operation="embedded.account",
    )


def _way_to(path: Path) -> list[Path]:
    return [*reversed(path.parents), path]


def _environment() -> dict[str, str]:
    # PGDATA, PGOPTIONS and their like speak of other servers; messages in English, and a locale
    # that is certain to exist.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}
