"""File locks that the kernel frees when their holder dies."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Self

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

_guard = threading.Lock()
_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An flock(2) on one file: shared or exclusive, freed by :meth:`close` or by the end of the process.

    A program started with the descriptor shares the lock and keeps it. A fork of this process does
    not: it closes the descriptor, or a pool's child would hold what it never asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _guard:  # no fork between opening and remembering
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self.descriptor = os.open(path, flags, 0o600)
            _open_locks.add(self)
        give_to_owner_of_folder(self.descriptor, path.parent)

    def try_exclusive(self) -> bool:
        """Takes the lock for us alone, or returns False; False also gives up a shared lock we held."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Takes the lock together with other sharers, or returns False."""
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_current(self) -> bool:
        """Whether the path still names the file we hold: someone may have deleted the folder."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def close(self, *, unlock: bool = True) -> None:
        """Gives the lock up; with ``unlock=False`` it stays with the programs that inherited it."""
        with _guard:
            descriptor, self.descriptor = self.descriptor, -1
            _open_locks.discard(self)
        if descriptor >= 0:
            if unlock:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def give_to_owner_of_folder(descriptor: int, folder: Path) -> None:
    """As root, gives a new file to the folder's owner, so that a later run of theirs can open it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        if os.fstat(descriptor).st_uid != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _forget_in_child() -> None:
    global _guard
    for lock in list(_open_locks):
        os.close(lock.descriptor)  # closes only: LOCK_UN would take the lock from the parent too
        lock.descriptor = -1
    _open_locks.clear()
    _guard = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(
        before=lambda: _guard.acquire(),
        after_in_parent=lambda: _guard.release(),
        after_in_child=_forget_in_child,
    )
