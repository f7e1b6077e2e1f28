"""Sees and stops a running server, with nothing but the standard library.

The watchdog runs this file without any installed package, so it imports none. Whether a server lives
is told by ``server.lock``: whoever starts one takes that lock exclusively and lets the server inherit
it, so the kernel frees it when the last of the server's processes is gone. A process id alone cannot
tell: it may be a zombie, be taken again after a restart, or belong to another container.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_PREFIX = "docyard-"
SOCKET_FILES = (".s.PGSQL.5432", ".s.PGSQL.5432.lock")
# Fast shutdown first; then immediate, after which the next start replays the WAL; then by force.
_ESCALATION = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True)
class Postmaster:
    """What ``postmaster.pid`` says; ``status`` is starting, ready, stopping or empty.

    ``sockets`` is None when the file was copied along with the folder of another server.
    """

    pid: int
    sockets: Path | None
    status: str

    @classmethod
    def read(cls, data_directory: Path) -> Postmaster | None:
        """The file's content, or None when there is none or its first line is not written yet."""
        try:
            lines = os.fsdecode((data_directory / "postmaster.pid").read_bytes()).split("\n")
            pid = int(lines[0])
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        ours = lines[1:2] == [str(data_directory)] or is_postmaster(pid, data_directory)
        sockets = Path(lines[4]) if ours and len(lines) > 4 and lines[4] else None
        return cls(pid, sockets, lines[7].strip() if len(lines) > 7 else "")


def server_holds(lock: Path) -> bool:
    """Whether a process of the server, or of an initdb before it, is alive."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_postmaster(pid: int, data_directory: Path) -> bool:
    """Whether this process is a postmaster of that folder, and not a stranger who got its number."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data_directory)  # a postmaster lives in its folder
    except OSError as error:
        if not Path("/proc/self").exists():
            return _listed_as_postmaster(pid)  # macOS
        # Root without CAP_SYS_PTRACE, as in a container, may read only the command line.
        return isinstance(error, PermissionError) and _started_on(pid, data_directory)


def _started_on(pid: int, data_directory: Path) -> bool:
    try:
        return os.fsencode(data_directory) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _listed_as_postmaster(pid: int) -> bool:
    import subprocess

    listing = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(listing, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return "postgres" in shown and " -D " in shown


def is_alive(data_directory: Path, lock: Path) -> bool:
    """Whether a server runs on the folder; one started by hand, without our lock, counts too."""
    if server_holds(lock):
        return True
    found = Postmaster.read(data_directory)
    return found is not None and is_postmaster(found.pid, data_directory)


def stop(data_directory: Path, lock: Path) -> bool:
    """Stops the server if one runs and removes its socket folder; False when it would not go."""
    sockets: Path | None = None

    def gone() -> bool:
        nonlocal sockets
        found = Postmaster.read(data_directory)
        sockets = (found and found.sockets) or sockets
        return not is_alive(data_directory, lock)

    def settled() -> bool:
        return gone() or Postmaster.read(data_directory) is not None

    wait_until(settled, 30.0)  # a server being started has not written its file yet
    for number, patience in _ESCALATION:
        found = Postmaster.read(data_directory)
        if not gone() and found and is_postmaster(found.pid, data_directory):
            os.kill(found.pid, number)
        elif not gone():
            patience = min(patience, 10.0)  # its children see the death of their parent and leave
        if wait_until(gone, patience):
            break
    else:
        return False
    if sockets is not None:
        remove_sockets(sockets)
    return True


def remove_sockets(folder: Path) -> None:
    """Removes a socket folder of ours that no server uses; anything else in it, or its absence, is left."""
    if not folder.name.startswith(SOCKET_PREFIX) or folder.is_symlink():
        return
    try:
        for name in SOCKET_FILES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        return  # it is gone, or not ours to remove


def wait_until(condition: Callable[[], bool], patience: float, pause: float = 0.01) -> bool:
    """Waits up to ``patience`` seconds for the condition; whether it came true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
