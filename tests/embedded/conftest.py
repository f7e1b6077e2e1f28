"""Real servers, and real processes that use and kill them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docyard_schema.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_USER = """
import sys
from pathlib import Path
from docyard_schema.embedded import EmbeddedServer
with EmbeddedServer.acquire(Path(sys.argv[1])) as server:
    print(server.conninfo, flush=True)
    sys.stdin.readline()
"""
NOBODY = 65534


@dataclass
class User:
    """Another process that uses a home until it is told to leave, or killed."""

    process: subprocess.Popen[str]

    def conninfo(self) -> str:
        assert self.process.stdout
        said = self.process.stdout.readline().strip()
        assert said, f"the user process failed: {self.process.communicate()[1]}"
        return said

    def error(self) -> str:
        said, complained = self.process.communicate(timeout=60)
        assert self.process.returncode, f"it was to fail, but said {said}"
        return complained

    def leave(self) -> None:
        said, complained = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, said + complained

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@dataclass
class Machine:
    """Starts processes, and looks at those that run on a home."""

    started: list[User] = field(default_factory=list)

    def user(self, home: Path, *, script: str = _USER, prefix: Sequence[str] = (), **options: object) -> User:
        argv = [*prefix, sys.executable, "-B", "-c", script, str(home)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        user = User(subprocess.Popen(argv, text=True, **pipes, **options))  # type: ignore[call-overload]
        self.started.append(user)
        return user

    def running(self, *words: str) -> list[int]:
        """The living processes whose command line has all these words."""
        listing = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True)
        found = (line.split(None, 2) for line in listing.stdout.splitlines())
        living = [(int(pid), args) for pid, state, args in found if not state.startswith("Z")]
        return [pid for pid, args in living if all(word in args for word in words)]

    def postmasters(self, home: Path) -> list[int]:
        return self.running("bin/postgres -D", str(home.resolve()))

    def watchdogs(self, home: Path) -> list[int]:
        return self.running("watchdog.py", str(home.resolve()))

    def eventually(self, condition: Callable[[], object], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.03)

    def kill_postmaster(self, home: Path) -> None:
        [pid] = self.postmasters(home)
        os.kill(pid, signal.SIGKILL)
        self.eventually(lambda: not self.postmasters(home))


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    for user in machine.started:
        if user.process.poll() is None:
            user.process.kill()
        user.process.communicate(timeout=60)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can enter."""
    folder = Path(tempfile.mkdtemp(prefix="test-docyard-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_home(open_folder: Path) -> Path:
    """A home that nobody has used yet."""
    return open_folder / "home"


@pytest.fixture(scope="session")
def data_directory() -> Iterator[Path]:
    """A stopped server's files: copying them is quicker than making them."""
    folder = Path(tempfile.mkdtemp(prefix="test-docyard-", dir="/tmp"))
    folder.chmod(0o755)
    with EmbeddedServer.acquire(folder / "home") as server:
        made = server.data_directory
    yield made
    shutil.rmtree(folder)


@pytest.fixture
def home(new_home: Path, data_directory: Path) -> Path:
    """A home that has had a server."""
    new_home.mkdir()
    subprocess.run(["cp", "-a", data_directory, new_home], check=True)
    return new_home


@pytest.fixture
def as_ordinary_user(open_folder: Path) -> list[str]:
    """The words before a command that run it as an ordinary user who owns ``open_folder``."""
    if os.geteuid() != 0:
        return []
    os.chown(open_folder, NOBODY, NOBODY)
    # The interpreter may lie in root's own folder; this lets an ordinary user pass, and nothing more.
    only = "-all,+dac_read_search"
    return [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}",
        "--securebits=+no_setuid_fixup",
    ]  # fmt: skip
