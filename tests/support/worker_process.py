"""``docyard worker`` as a process of its own, which a test may stop, continue and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class WorkerProcess:
    """A running worker; its parser processes are in its process group."""

    def __init__(
        self, url: str, log: Path, environment: Mapping[str, str], *arguments: str, folder: Path | None = None
    ) -> None:
        self.log = log
        settings = {"DOCYARD_DATABASE_URL": url, "DOCYARD_LOG_FORMAT": "json", **environment}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "docyard", "worker", *arguments],
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=folder or log.parent,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it claims jobs; fails when it ended."""
        assert self.alive, self.log.read_text()
        return "worker.started" in self.log.read_text()

    @property
    def group_alive(self) -> bool:
        """Whether any process of its group lives, the parsers that it started among them."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9`` of the worker alone."""
        self.process.kill()
        self.process.wait(timeout=30)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextmanager
def worker_process(
    url: str, log: Path, environment: Mapping[str, str], *arguments: str, folder: Path | None = None
) -> Iterator[WorkerProcess]:
    """A worker that is gone at the end of the block, however it ends."""
    worker = WorkerProcess(url, log, environment, *arguments, folder=folder)
    try:
        yield worker
    finally:
        if worker.alive:
            worker.kill()
