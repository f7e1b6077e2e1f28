"""Who uses a home: a process joins once, however many ask in it, and the last one out stops the server."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_schema.embedded import postmaster
from docyard_schema.embedded.account import Account
from docyard_schema.embedded.cluster import START_PATIENCE
from docyard_schema.embedded.locks import FileLock
from docyard_schema.embedded.postmaster import wait_until
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema.embedded.cluster import Cluster
    from docyard_schema.embedded.home import Home

_registry: dict[Path, Share] = {}
_registering = threading.Lock()
_LEAVE_PATIENCE = 90.0  # a little more than a server may take before it is stopped by force


class Share:
    """This process's part in the server of one home: a shared lock, and a count of those who asked."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._mutex = threading.Lock()
        self._users: FileLock | None = None
        self._count = 0

    @classmethod
    def of(cls, home: Home) -> Share:
        """The one share this process has in that home."""
        with _registering:
            return _registry.setdefault(home.path, cls(home))

    def join(self, cluster: Cluster) -> None:
        """Counts one more user, with the server running, answering and watched."""
        with self._mutex, _alone(self.home, START_PATIENCE):
            former = self._users
            users = former if former is not None and former.is_current() else FileLock(self.home.users_lock)
            try:
                if not wait_until(users.try_shared, START_PATIENCE):  # a stopping server is waited for
                    raise _busy(self.home)
                _ensure_watchdog(self.home)
                _ensure_running(self.home, cluster)
            except BaseException:
                if users is not former:
                    users.close()
                raise
            if former is not None and former is not users:
                former.close()  # someone deleted the home and this is another of the same name
            self._users = users
            self._count += 1

    def leave(self) -> None:
        """Counts one user less; the last one of the last process stops the server before it returns."""
        with self._mutex:
            self._count -= 1
            if self._count or self._users is None:
                return
            users, self._users = self._users, None
            try:
                with _alone(self.home, _LEAVE_PATIENCE):
                    if users.is_current() and self._is_last(users):
                        postmaster.stop(self.home.data_directory, self.home.server_lock)
            except (OSError, EmbeddedError):
                return  # the home is gone, or others keep it busy: the watchdog sees to the rest
            finally:
                users.close()

    def _is_last(self, users: FileLock) -> bool:
        alone = False

        def decided() -> bool:
            # Failing both ways means that the watchdog holds the lock and is stopping the server.
            nonlocal alone
            alone = users.try_exclusive()
            return alone or users.try_shared()

        wait_until(decided, _LEAVE_PATIENCE)
        return alone


def _ensure_running(home: Home, cluster: Cluster) -> None:
    for _ in range(3):
        with FileLock(home.server_lock) as lock:
            if lock.try_exclusive() and not cluster.has_living_postmaster():
                cluster.start(lock)
                return
        if cluster.answers():
            return
        if not cluster.make_way():
            break
    raise cluster.unreachable()


def _ensure_watchdog(home: Home) -> None:
    # In a frozen application sys.executable is the application. Without a Python there is no watchdog,
    # and a server whose last user was killed runs until the next user leaves.
    python = shutil.which("python3") if getattr(sys, "frozen", False) else sys.executable
    lock = FileLock(home.watchdog_lock)
    try:
        if python and lock.try_exclusive():
            script = str(Path(__file__).with_name("watchdog.py"))
            argv = [python, "-I", "-S", "-B", script, str(home.path), str(lock.descriptor)]
            ourselves = Account(uid=os.geteuid(), gid=os.getegid())
            ourselves.detach(argv, inherit=[lock.descriptor])
    finally:
        lock.close(unlock=False)  # the watchdog has it


@contextmanager
def _alone(home: Home, patience: float) -> Iterator[None]:
    while True:
        with FileLock(home.start_lock) as lock:
            if not wait_until(lock.try_exclusive, patience):
                raise _busy(home)
            if lock.is_current():  # else the home was deleted while we waited
                yield
                return


def _busy(home: Home) -> EmbeddedError:
    return EmbeddedError(
        f"Another process has been starting or stopping the embedded Postgres of {home.path} for minutes.",
        hint=f"Look at {home.log}, and for a suspended process that uses this folder.",
        operation="embedded.join",
    )


def _forget_in_child() -> None:
    global _registering
    _registry.clear()
    _registering = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_in_child)
