"""A Postgres of its own: over TCP, with passwords, that a test may stop, restart and spoil."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

from docyard_schema.embedded.account import account_for
from docyard_schema.embedded.binaries import find_binaries
from docyard_schema.embedded.home import Home

PASSWORD = "p@ss/word %1: of 'postgres'"


class ScratchServer:
    """Runs the embedded wheel's own programs, as an unprivileged user when we are root."""

    def __init__(self, major: int = 18, **settings: object) -> None:
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="test-docyard-scratch-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._data = self.folder / "data"
        self._binaries = find_binaries()[major]
        self._account = account_for(Home.at(self.folder), self._binaries.folder / "postgres")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._initialize()

    def _initialize(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        self._account.give(self.folder)
        made = self._run(
            "initdb", "-D", self._data, "--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres",
            "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}",
        ).communicate()  # fmt: skip
        assert (self._data / "PG_VERSION").exists(), made

    def _run(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        argv, options = self._account.command(
            [self._binaries.program(program), *(str(argument) for argument in arguments)]
        )
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def start(self) -> Self:
        """Start it and wait until it answers; again at the same port after a stop."""
        self.port = self.port or _free_port()
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": 40,
            "jit": "off",
        } | self._settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = self._run("postgres", "-D", self._data, *options)
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.local_url()).close()
                return self
            except psycopg.OperationalError:
                log = (self.folder / "postgres.log").read_text()
                assert self._process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.02)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it, cleanly or as a crash does; nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            process.wait(timeout=30)

    def remove(self) -> None:
        self.stop(immediate=True)
        shutil.rmtree(self.folder)

    def url(
        self,
        database: str = "postgres",
        *,
        user: str = "postgres",
        password: str | None = PASSWORD,
        port: int | None = None,
        query: str = "",
    ) -> str:
        """A URL over TCP, where a password is asked for."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{user}{secret}@127.0.0.1:{port or self.port}/{database}{query}"

    def local_url(self, database: str = "postgres") -> str:
        """Through its socket, where none is."""
        return f"host={self.folder} port={self.port} user=postgres dbname={database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.local_url(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
