"""``docyard migrate reembed`` as a process that a test kills, or that kills itself at a step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import dying_reembed

OLD, NEW = "text-embedding-3-small", "text-embedding-3-large"
OLD_DIMENSION, NEW_DIMENSION = 24, 40
OLD_NAME, NEW_NAME = f"{OLD}-{OLD_DIMENSION}", f"{NEW}-{NEW_DIMENSION}"

TO_NEW = ("migrate", "reembed", "--model", NEW, "--dimension", str(NEW_DIMENSION))


class Process:
    """``docyard …`` as a process; what it says is in ``log``."""

    def __init__(self, url: str, environment: dict[str, str], log: Path, arguments: list[str]) -> None:
        self.log = log
        settings = {"DOCYARD_DATABASE_URL": url, "DOCYARD_LOG_FORMAT": "json", **environment}
        folders = [str(Path(dying_reembed.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, dying_reembed.__file__, *arguments],
                env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(folders)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def code(self) -> int | None:
        return self.process.poll()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """SIGKILL; nothing when it has ended."""
        if not self.ended:
            self.process.kill()
        self.process.wait(timeout=20)
