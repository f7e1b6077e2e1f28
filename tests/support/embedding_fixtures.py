"""Fixtures around the embedding server; a conftest imports them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.embedding_server import EmbeddingServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def embedding_server() -> Iterator[EmbeddingServer]:
    """A fresh server per test, with OpenAI's models and limits and no latency."""
    with EmbeddingServer() as server:
        yield server
