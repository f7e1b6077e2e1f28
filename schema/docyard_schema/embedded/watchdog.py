"""Stops a server after its last user, however that user died. Run as a script, never imported.

``python -I -S -B watchdog.py HOME DESCRIPTOR``: the descriptor is ``watchdog.lock``, already locked by
the process that started us, so there is never a moment without its watchdog or with two of them.
It sleeps in flock(2) and costs nothing while the server runs.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
from pathlib import Path


def main(home: Path, own_lock: int) -> None:
    """Waits until nobody uses the home, stops its server, then makes room for the next watchdog."""
    sys.path.append(str(Path(__file__).parent))
    postmaster = importlib.import_module("postmaster")  # its package would import what -S hides
    users = os.open(home / "users.lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    fcntl.flock(users, fcntl.LOCK_EX)
    try:
        # A home deleted and made again is another's; the server of the deleted one notices by itself.
        if os.path.samestat(os.fstat(users), (home / "users.lock").stat()):
            postmaster.stop(home / "postgres", home / "server.lock")
    finally:
        # In this order: who comes next waits for users.lock, then looks whether there is a watchdog.
        fcntl.flock(own_lock, fcntl.LOCK_UN)
        fcntl.flock(users, fcntl.LOCK_UN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
