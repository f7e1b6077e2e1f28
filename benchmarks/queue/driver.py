"""Talks to the drivers: each verb is a process of the system's own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.queue.systems import System

_LONGEST_SECONDS = 600


class Driver:
    """One system's driver."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._command, self._folder = system.command()

    def ask(self, verb: str, url: str, **options: Any) -> dict[str, Any]:
        """What a verb answers; nothing when it has nothing to say."""
        process = self._start(verb, url, options)
        with _ended(process):
            output, _ = process.communicate(timeout=_LONGEST_SECONDS)
            if process.returncode:
                raise RuntimeError(f"{self.system.name}: {verb} ended with {process.returncode}.")
        lines = output.splitlines()
        return json.loads(lines[-1]) if lines else {}

    @contextmanager
    def workers(
        self, url: str, count: int, *, options: Mapping[str, Any] | None = None, trace: bool = False
    ) -> Iterator[Sequence[WorkerProcess]]:
        """Worker processes that are ready and wait; killed at the end, whatever they do.

        ``options`` of None are the system's own.
        """
        chosen = dict(self.system.worker if options is None else options) | {"trace": trace}
        processes = [self._start("work", url, chosen) for _ in range(count)]
        workers = [WorkerProcess(self.system.name, process) for process in processes]
        try:
            for worker in workers:
                worker.read()
            yield workers
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    def _start(self, verb: str, url: str, options: dict[str, Any]) -> subprocess.Popen[str]:
        # Its own settings only: a developer's must not reach it.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DOCYARD_", "PG", "PYTHON", "GRAPHILE_", "DATABASE_URL"))
        }
        return subprocess.Popen(
            [*self._command, verb, url, json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True,
            cwd=self._folder, env=environment | {"NO_LOG_SUCCESS": "1"},
        )  # fmt: skip


class WorkerProcess:
    """A worker that was started."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self._process = process

    def fileno(self) -> int:
        """Lets ``select`` wait for what it says."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def go(self) -> None:
        """Let it claim."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name}: a worker ended with {self._process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
