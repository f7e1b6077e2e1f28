"""Starts the server of a home, asks whether it answers, and sees off one that does not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from docyard_schema.embedded import postmaster
from docyard_schema.embedded.account import account_for
from docyard_schema.embedded.binaries import binaries_for, stored_major
from docyard_schema.embedded.configuration import server_options
from docyard_schema.embedded.creation import clear_leftovers, create_data_directory, failure
from docyard_schema.embedded.home import WAYS_OUT
from docyard_schema.embedded.postmaster import Postmaster, is_alive, is_postmaster, wait_until
from docyard_schema.embedded.sockets import address, make_socket_folder
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from docyard_schema.embedded.account import Account
    from docyard_schema.embedded.binaries import Binaries
    from docyard_schema.embedded.home import Home
    from docyard_schema.embedded.locks import FileLock

# Replaying 2 GB of WAL on a slow disk takes minutes, and interrupting it gains nothing.
START_PATIENCE = 300.0


@dataclass(slots=True)
class Cluster:
    """The data directory of a home and the server that runs on it. Its methods expect ``start.lock``."""

    home: Home
    major: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self, lock: FileLock) -> None:
        """Starts the server, which inherits ``lock``; the data directory is made first if need be."""
        data = self.home.data_directory
        binaries = binaries_for(data, self.major)
        account = account_for(self.home, binaries.folder / "postgres")
        clear_leftovers(self.home)
        if stored_major(data) is None:
            create_data_directory(self.home, binaries, account, lock)
        elif data.stat().st_uid != account.uid and not data.is_symlink():
            account.give(data)  # root's, copied or restored
        sockets = make_socket_folder(account, self._forget_dead_postmaster())
        known_bytes = self.home.log.stat().st_size if self.home.log.exists() else 0
        self._launch(binaries, account, sockets, lock)
        if not self.answers():
            self.make_way()
            postmaster.remove_sockets(sockets)
            said = self.home.log.read_bytes()
            raise failure(self.home, "did not start", said[known_bytes:].decode(errors="replace"))

    def _launch(self, binaries: Binaries, account: Account, sockets: Path, lock: FileLock) -> None:
        options = server_options(self.settings, sockets)
        argv = [binaries.program("postgres"), "-D", str(self.home.data_directory), *options]
        output = self.home.open_log()
        try:
            account.detach(argv, inherit=[lock.descriptor], output=output)
        finally:
            os.close(output)
        lock.close(unlock=False)

    def answers(self) -> bool:
        """Waits until the server answers and has its database; False when it stops or is out of reach."""
        answered = False

        def settled() -> bool:
            nonlocal answered
            found = Postmaster.read(self.home.data_directory)
            if found is None or found.status not in {"ready", "stopping"}:
                return not is_alive(self.home.data_directory, self.home.server_lock)
            if found.status == "stopping" or not self.has_living_postmaster():
                return True
            if found.sockets is None or not (found.sockets / postmaster.SOCKET_FILES[0]).exists():
                return True
            # Asked at the door: a server too full to let us in is a running one. And what keeps us
            # from asking (a PGSERVICE that does not exist) is an error when we connect.
            door = address(found.sockets, "postgres") + " connect_timeout=10"
            answered = psycopg.pq.PGconn.ping(door.encode()) in {
                psycopg.pq.Ping.OK,
                psycopg.pq.Ping.NO_ATTEMPT,
            }
            return answered

        wait_until(settled, START_PATIENCE)
        if answered:
            self._ensure_database()
        return answered

    def has_living_postmaster(self) -> bool:
        """Whether ``postmaster.pid`` names a live server; one that was started by hand has no lock."""
        found = Postmaster.read(self.home.data_directory)
        return found is not None and is_postmaster(found.pid, self.home.data_directory)

    def make_way(self) -> bool:
        """Sees a server off that does not answer; False when it stays."""
        if self.has_living_postmaster():
            return postmaster.stop(self.home.data_directory, self.home.server_lock)
        # Killed: its children notice and leave. Its socket folder stays for the server to come.
        return wait_until(lambda: not postmaster.server_holds(self.home.server_lock), 10.0)

    def conninfo(self, database: str) -> str:
        """How psycopg reaches a database of the running server."""
        found = Postmaster.read(self.home.data_directory)
        if found is None or found.sockets is None:
            raise EmbeddedError(f"The server of {self.home.path} is gone.", operation="embedded.connect")
        return address(found.sockets, database)

    def version(self) -> int:
        """The major version of the data directory."""
        return stored_major(self.home.data_directory) or self.major

    def unreachable(self) -> EmbeddedError:
        """What to say of a server that lives, does not answer and would not stop."""
        return EmbeddedError(
            f"A server runs on {self.home.data_directory} and cannot be reached from this process.",
            hint=f"If it runs in another container or was started by hand, stop it there. Or: {WAYS_OUT}",
            operation="embedded.start",
        )

    def _forget_dead_postmaster(self) -> Path | None:
        # PostgreSQL sees a stale file itself, unless another living process got the number, as
        # happens in every restarted container. Holding server.lock we know better.
        found = Postmaster.read(self.home.data_directory)
        if found is None:
            return None
        (self.home.data_directory / "postmaster.pid").unlink()
        return found.sockets

    def _ensure_database(self) -> None:
        with psycopg.connect(self.conninfo("postgres"), autocommit=True, connect_timeout=10) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'docyard'")
            if known.fetchone() is None:
                connection.execute("CREATE DATABASE docyard")
