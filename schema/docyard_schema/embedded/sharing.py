"""Who uses a home: this process joins once, however many ask in it, and the last one out stops the server."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from docyard_schema.embedded import postmaster, watchdog
from docyard_schema.embedded.account import Account
from docyard_schema.embedded.cluster import START_PATIENCE, detach
from docyard_schema.embedded.locks import FileLock
from docyard_schema.embedded.postmaster import is_alive, wait_until
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docyard_schema.embedded.cluster import Cluster
    from docyard_schema.embedded.home import Home

_registry: dict[Path, Share] = {}
_registering = threading.Lock()
# Stopping takes at most this long before it turns to force.
_LEAVE_PATIENCE = 90.0


class Share:
    """This process's part in the server of one home: a shared lock and a count of those who asked."""

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
        with self._mutex, _alone(self.home):
            users = self._users
            if users is None or not users.is_current():
                users = FileLock(self.home.users_lock)
            try:
                if not wait_until(users.try_shared, START_PATIENCE):  # the last users' server is stopping
                    raise _busy(self.home)
                self._ensure_watchdog()
                self._ensure_running(cluster)
            except BaseException:
                if users is not self._users:
                    users.close()
                raise
            if self._users not in {None, users}:
                self._users.close()
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
                with _alone(self.home):
                    if self._last_one(users):
                        postmaster.stop(self.home.data_directory, self.home.server_lock)
            except (OSError, EmbeddedError):
                return  # the home is gone, or others keep it busy: the watchdog sees to the rest
            finally:
                users.close()

    def _last_one(self, users: FileLock) -> bool:
        others = False

        def decided() -> bool:
            nonlocal others
            if users.try_exclusive():
                return True
            others = users.try_shared()  # not even that: the watchdog is stopping the server
            return others

        return users.is_current() and wait_until(decided, _LEAVE_PATIENCE) and not others

    def _ensure_running(self, cluster: Cluster) -> None:
        while True:
            lock = FileLock(self.home.server_lock)
            try:
                if lock.try_exclusive() and not is_alive(self.home.data_directory, self.home.watchdog_lock):
                    return cluster.start(lock)
            finally:
                lock.close()
