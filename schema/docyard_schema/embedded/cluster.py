"""Makes a data directory, starts its server, and asks whether it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from docyard_schema.embedded import postmaster
from docyard_schema.embedded.account import Account, account_for
from docyard_schema.embedded.binaries import binaries_for, stored_major
from docyard_schema.embedded.configuration import initdb_variants, server_options
from docyard_schema.embedded.home import WAYS_OUT, account_name
from docyard_schema.embedded.postmaster import Postmaster, is_alive, is_postmaster, wait_until
from docyard_schema.embedded.sockets import make_socket_folder
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docyard_schema.embedded.binaries import Binaries
    from docyard_schema.embedded.home import Home
    from docyard_schema.embedded.locks import FileLock

DATABASE = "docyard"
# Replaying 2 GB of WAL on a slow disk takes minutes, and interrupting it gains nothing.
START_PATIENCE = 300.0
_LOG_LINES = 15


@dataclass(slots=True)
class Cluster:
    """The data directory of a home and the server that runs on it. Every method expects ``start.lock``."""

    home: Home
    major: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self, lock: FileLock) -> None:
        """Starts the server, which inherits ``lock``; the data directory is made first if need be."""
        binaries = binaries_for(self.home.data_directory, self.major)
        account = account_for(self.home, binaries.folder / "postgres")
        for leftover in self.home.leftovers():
            shutil.rmtree(leftover)
        if stored_major(self.home.data_directory) is None:
            self._create(binaries, account, lock)
        elif os.geteuid() == 0 and self._owner() == 0 and not self.home.data_directory.is_symlink():
            account.give(self.home.data_directory)  # copied or restored by root
        sockets = make_socket_folder(account, self._forget_dead_postmaster())
        options = server_options(self.settings, sockets)
        argv = [binaries.program("postgres"), "-D", str(self.home.data_directory), *options]
        output = self.home.open_log()
        try:
            said_from = os.fstat(output).st_size
            detach(argv, account, inherit=[lock.descriptor], output=output)
        finally:
            os.close(output)
        lock.close(unlock=False)
        if not self.answers():
            postmaster.stop(self.home.data_directory, self.home.server_lock)
            postmaster.remove_sockets(sockets)
            raise self._failure("did not start", said_from)

    def answers(self) -> bool:
        """Waits until the server answers and has its database; False when it stops or is out of reach."""
        answered = False

        def settled() -> bool:
            nonlocal answered
            found = Postmaster.read(self.home.data_directory)
            if found is None or found.status not in {"ready", "stopping"}:
                return not is_alive(self.home.data_directory, self.home.server_lock)
            answered = found.status == "ready" and self._ensure_database(found.sockets)
            return True

        wait_until(settled, START_PATIENCE)
        return answered

    def conninfo(self, database: str) -> str:
        """How psycopg reaches a database of the running server."""
        found = Postmaster.read(self.home.data_directory)
        if found is None or found.sockets is None:
            raise EmbeddedError(f"The server of {self.home.path} is gone.", operation="embedded.connect")
        return make_conninfo(host=str(found.sockets), port=5432, user="postgres", dbname=database)

    def version(self) -> int:
        """The major version of the data directory."""
        return stored_major(self.home.data_directory) or self.major

    def _create(self, binaries: Binaries, account: Account, lock: FileLock) -> None:
        if self.home.data_directory.exists() and any(self.home.data_directory.iterdir()):
            raise EmbeddedError(
                f"{self.home.data_directory} has files in it, but is no data directory of PostgreSQL.",
                hint=f"Move it away. Or: {WAYS_OUT}",
                operation="embedded.create",
            )
        # Made beside its place and renamed when whole: who is killed in between leaves no half of it.
        unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.home.path))
        account.give(unfinished)
        said = ""
        for variant in initdb_variants(binaries):
            argv, options = account.command([binaries.program("initdb"), "-D", str(unfinished), *variant])
            made = subprocess.run(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                check=False, pass_fds=[lock.descriptor], **options,
            )  # fmt: skip
            said = made.stdout.decode(errors="replace")
            if made.returncode == 0:
                break
            if "locale" not in said:
                raise self._failure("could not be prepared", said=said)
        else:
            raise self._failure("could not be prepared", said=said)
        unfinished.rename(self.home.data_directory)
        folder = os.open(self.home.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _owner(self) -> int:
        return self.home.data_directory.stat().st_uid

    def _forget_dead_postmaster(self) -> Path | None:
        # PostgreSQL sees a stale file itself, unless another living process got the number, as
        # happens in every restarted container. Holding server.lock we know better.
        found = Postmaster.read(self.home.data_directory)
        if found is None or is_postmaster(found.pid, self.home.data_directory):
            return None
        (self.home.data_directory / "postmaster.pid").unlink()
        return found.sockets

    def _ensure_database(self, sockets: Path | None) -> bool:
        if sockets is None or not (sockets / postmaster.SOCKET_FILES[0]).exists():
            return False
        try:
            with psycopg.connect(self.conninfo("postgres"), autocommit=True, connect_timeout=10) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if known.fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return False
        return True

    def _failure(self, what: str, said_from: int = 0, said: str = "") -> EmbeddedError:
        if not said and self.home.log.exists():
            said = self.home.log.read_bytes()[said_from:].decode(errors="replace")
        tail = "\n".join(said.splitlines()[-_LOG_LINES:]) or "(It said nothing.)"
        free = shutil.disk_usage(self.home.path).free
        return EmbeddedError(
            f"The embedded Postgres of {self.home.path} {what}. Its last words:\n{tail}",
            hint=f"The log is {self.home.log}; its disk has {free // 2**20} MB free. {WAYS_OUT}",
            operation="embedded.start",
            reason=tail,
        )

    def unreachable(self) -> EmbeddedError:
        """What to say of a server that lives, does not answer and would not stop."""
        return EmbeddedError(
            f"A server runs on {self.home.data_directory} and cannot be reached from here; "
            f"the folder belongs to {account_name(self._owner())}.",
            hint="If it runs in another container or was started by hand, stop it there. Or: " + WAYS_OUT,
            operation="embedded.start",
        )


def detach(argv: Sequence[str], account: Account, *, inherit: Sequence[int], output: int) -> None:
    """Starts a program that outlives us, in a session of its own; its parent is init, which reaps it."""
    # The shell takes the arguments as they are, so no path needs quoting, and leaves at once.
    command, options = account.command(["/bin/sh", "-c", '"$@" &', "sh", *argv])
    subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True, pass_fds=inherit, **options
    )
