"""The command line, called in this process (fast) or as one of its own (real)."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import structlog
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Docyard(Protocol):
    def __call__(self, *arguments: object) -> Ended: ...


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's own folder: no docyard.toml and no .docyard of anybody else."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def docyard() -> Iterator[Docyard]:
    """Calls the command line in this process, on whatever database the environment names."""
    handlers, level, configured = logging.root.handlers[:], logging.root.level, structlog.get_config()

    def call(*arguments: object) -> Ended:
        from docyard.cli.application import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="docyard")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    yield call
    logging.root.handlers, logging.root.level = handlers, level
    structlog.configure(**configured)


@pytest.fixture
def on_server(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database with the schema, which the environment names."""
    monkeypatch.setenv("DOCYARD_DATABASE_URL", url)
    return url


class Running:
    """A command as a process of its own; what it says is collected."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "docyard", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def said(self) -> str:
        return "".join([*self.out, *self.err])

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 30) -> Ended:
        code = self.process.wait(timeout=seconds)
        for reader in self._readers:
            reader.join()
        return Ended(code, "".join(self.out), "".join(self.err))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for reader in self._readers:
            reader.join(timeout=5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line)  # noqa: PERF402 - as they come


@pytest.fixture
def spawn() -> Iterator[Callable[..., Running]]:
    """Starts commands as processes of their own; kills what is left of them."""
    running: list[Running] = []

    def start(*arguments: object, **environment: str) -> Running:
        running.append(Running(*arguments, **environment))
        return running[-1]

    yield start
    for command in running:
        command.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder of three small documents and a file that nobody can parse."""
    folder = tmp_path / "library"
    (folder / "deeper").mkdir(parents=True)
    (folder / "whales.md").write_text(
        "# Whales\n\nThe blue whale is the largest animal that ever lived.\n\n## Food\n\nIt eats krill.\n"
    )
    (folder / "tides.txt").write_text("The moon pulls the oceans, so there are two tides a day.\n")
    (folder / "deeper" / "lighthouse.html").write_text(
        "<html><head><title>Lighthouses</title></head><body><h1>Lighthouses</h1>"
        "<p>A lighthouse warns ships of the rocks at night.</p></body></html>"
    )
    (folder / "picture.xyz").write_bytes(b"\x00\x01\x02")
    return folder
