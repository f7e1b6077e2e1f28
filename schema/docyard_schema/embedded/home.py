"""The home folder: what lies where in it, and whether we may use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from docyard_schema.embedded.locks import give_to_owner_of_folder
from docyard_schema.errors import EmbeddedError

WAYS_OUT = "Choose another DOCYARD_HOME, or set DOCYARD_DATABASE_URL to a Postgres server of your own."
_LOG_LIMIT_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Home:
    """A folder that holds one data directory, its log, and the locks of those who use it."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """The home at a path that may be relative, start with ``~`` or lead through symbolic links."""
        return cls(Path(path).expanduser().resolve())

    @property
    def data_directory(self) -> Path:
        """Where the server keeps its files; it appears whole, by a rename."""
        return self.path / "postgres"

    @property
    def log(self) -> Path:
        """What the server says; the file of earlier days is beside it, with ``.1`` after its name."""
        return self.path / "postgres.log"

    @property
    def start_lock(self) -> Path:
        """Held by the one process that is joining, starting, or leaving."""
        return self.path / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by every process that uses the server; exclusive to the one that stops it."""
        return self.path / "users.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server's own processes as long as one of them lives."""
        return self.path / "server.lock"

    @property
    def watchdog_lock(self) -> Path:
        """Held by the watchdog as long as it lives."""
        return self.path / "watchdog.lock"

    def prepare(self) -> None:
        """Makes the folder if it is absent, and refuses one that belongs to somebody else."""
        missing = [folder for folder in (self.path, *self.path.parents) if not _exists(folder)]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            if os.geteuid() == 0:  # made for the owner of the place, as under sudo
                owner = folder.parent.stat()
                os.chown(folder, owner.st_uid, owner.st_gid)
        self._refuse_foreign()
        self._hide_from_git()

    def open_log(self) -> int:
        """A descriptor that appends to the log; a log that grew large is put aside first."""
        if _exists(self.log) and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_name("postgres.log.1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.log, flags, 0o600)
        give_to_owner_of_folder(descriptor, self.path)
        return descriptor

    def _refuse_foreign(self) -> None:
        me = os.geteuid()
        if me == 0:
            return
        usable = os.access(self.path, os.R_OK | os.W_OK | os.X_OK)
        for folder in (self.path, self.data_directory) if usable else (self.path,):
            if not _exists(folder):
                continue
            owner = folder.stat().st_uid
            if owner != me and (folder != self.path or not usable):
                raise EmbeddedError(
                    f"{folder} belongs to {account_name(owner)}, and this process runs as "
                    f"{account_name(me)}: only its owner can use an embedded database.",
                    hint=f"Run as that user, give it away (sudo chown -R {me} '{self.path}'), or: {WAYS_OUT}",
                    operation="embedded.open",
                )

    def _hide_from_git(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path / ".gitignore", flags, 0o644)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            give_to_owner_of_folder(descriptor, self.path)
            file.write("*\n")


def account_name(uid: int) -> str:
    """A user as people know them: ``anna (uid 1000)``."""
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
