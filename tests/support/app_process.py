"""Worker programs of the tests as processes that a test stops, continues and kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
    from types import ModuleType


class AppProcess:
    """``app`` (a module of :mod:`support` that can be run) working on ``url``."""

    def __init__(self, app: ModuleType, url: str, log: Path, options: dict[str, Any]) -> None:
        self._log = log
        program = Path(str(app.__file__))
        folders = [str(program.parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(program), url, json.dumps(options)],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL; nothing when it has ended."""
        if not self.ended():
            self.process.kill()
            self.process.wait(timeout=20)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=40)
