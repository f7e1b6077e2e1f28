"""Several worker processes, kept running: one that dies is started again, and all stop together."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from docyard.cli.command import WRONG_USE
from docyard.cli.stopping import SIGNALS

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    from docyard.cli.invocation import Invocation

_log = structlog.get_logger("docyard.supervisor")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# A process that lived so long did not die of what it was started with.
_SETTLED_SECONDS = 60.0
_GRACE_SECONDS = 10.0


@dataclass
class Supervisor:
    """Runs ``docyard worker`` so many times, each with ``arguments``, as children of this process.

    They sit in sessions of their own, so that a terminal's Ctrl-C reaches this process only, and end when
    their standard input does: no child outlives a supervisor that was killed.
    """

    invocation: Invocation
    arguments: Sequence[str]
    count: int
    _children: set[Process] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: int = 0
    _exit_code: int = 0

    async def run(self) -> int:
        """Keep the processes running until a signal, or until one refuses its configuration."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._received, number)
        # What is wrong for all of them is said once, here.
        async with self.invocation.database():
            pass
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self.count)]
        await self._stopping.wait()
        _, late = await asyncio.wait(
            keepers, timeout=self.invocation.settings.shutdown_seconds + _GRACE_SECONDS
        )
        for child in self._children if late else ():
            child.kill()
        await asyncio.gather(*keepers)
        return self._exit_code

    async def _keep(self, number: int) -> None:
        pause = _SHORTEST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            code = await self._one(number)
            if self._stopping.is_set():
                return
            if code == WRONG_USE:
                self._exit_code = WRONG_USE
                self._stop()
                return
            if time.monotonic() - begun > _SETTLED_SECONDS:
                pause = _SHORTEST_PAUSE
            _log.error("process.died", number=number, exit_code=code, restart_in_s=round(pause, 1))
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1)):  # noqa: S311 - jitter
                    await self._stopping.wait()
            except TimeoutError:
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _one(self, number: int) -> int:
        options = self.invocation.options
        flags = ["--verbose"] if options.verbose else ["--quiet"] if options.quiet else []
        config = [f"--config={options.config}"] if options.config else []
        # Settings of the command line go by the environment, where no list of processes shows a password.
        overrides = {
            f"DOCYARD_{name.upper()}": str(value) for name, value in self.invocation.overrides.items()
        }
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "docyard",
            *config,
            *flags,
            "worker",
            "--supervised",
            *self.arguments,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=os.environ | overrides,
        )
        self._children.add(child)
        _log.info("process.started", number=number, pid=child.pid)
        if self._stopping.is_set():
            child.send_signal(signal.SIGTERM)
        try:
            return await child.wait()
        finally:
            self._children.discard(child)

    def _received(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            for child in self._children:
                child.kill()
            self._exit_code = 128 + number
            return
        self.invocation.output.aside("Stopping all processes; Ctrl-C again ends them at once.")
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children:
            child.send_signal(signal.SIGTERM)
