"""A PgBouncer in transaction mode before a scratch server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from support.scratch_server import ScratchServer

_SERVER_CONNECTIONS = 3


def program() -> str:
    """PgBouncer's path. Skips the test on a machine without it; fails where CI said that it is there."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        reason = "no pgbouncer here (on Debian: apt-get install pgbouncer)"
        if os.environ.get("FAULTS_NEED_PGBOUNCER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Pooler:
    """Few server connections for many clients, each lent for one transaction; all else as it comes."""

    def __init__(self, server: ScratchServer) -> None:
        self._program = program()
        self._server = server
        self._folder = server.folder / "pooler"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self._folder.mkdir()
        self._folder.chmod(0o777)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": _SERVER_CONNECTIONS,
            "max_client_conn": 200,
        }
        if os.geteuid() == 0:
            settings["user"] = "nobody"  # It refuses to run as root.
        lines = [f"{name} = {value}" for name, value in settings.items()]
        configuration = self._folder / "pgbouncer.ini"
        upstream = f"* = host={self._server.folder} port={self._server.port} user=postgres"
        configuration.write_text("\n".join(["[databases]", upstream, "[pgbouncer]", *lines, ""]))
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, str(configuration)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def url(self, database: str = "postgres") -> str:
        """Through the pooler."""
        return make_conninfo("", host="127.0.0.1", port=self.port, user="postgres", dbname=database)
