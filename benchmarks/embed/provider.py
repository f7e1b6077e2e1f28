"""The provider of the tests in a process of its own, so that it takes no time from what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = Path(__file__).parents[2] / "tests" / "support" / "embedding_server.py"


class EmbeddingProcess:
    """A running server: its base URL, and what it counted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = url.removesuffix("/v1")

    def counts(self) -> dict[str, Any]:
        """What ``Counts.summary`` of the tests says."""
        with urlopen(f"{self._root}/counts", timeout=60) as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    def reset(self) -> None:
        with urlopen(Request(f"{self._root}/reset", data=b"", method="POST"), timeout=60):
            pass


@contextmanager
def embedding_process(*options: str) -> Iterator[EmbeddingProcess]:
    """A server with these options of ``embedding_server.py``, gone after the block."""
    with subprocess.Popen(
        [sys.executable, str(_PROGRAM), *options], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield EmbeddingProcess(process.stdout.readline().strip())
        finally:
            process.kill()
