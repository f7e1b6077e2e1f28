"""Lets a test that runs as root meet a permission that is denied, as an ordinary user would."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that any user may enter; pytest's own are closed to all but their owner."""
    folder = Path(tempfile.mkdtemp(prefix="docyard-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Inside the block this process has no more rights than an ordinary user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
