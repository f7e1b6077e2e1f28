"""One embedded Postgres per run, one migrated template database, one clone of it per test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import structlog
from support.embedding_server import EmbeddingServer

from docyard.testing.postgres import embedded_server, new_database, template_database
from docyard_schema import Database, DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docyard_schema.embedded import EmbeddedServer


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys and settings must not reach a test."""
    import os

    for name in list(os.environ):
        if name.startswith(("DOCYARD_", "OPENAI_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets for log lines is its own."""
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[EmbeddedServer]:
    """The run's Postgres: shared by all of xdist's processes, stopped by the last."""
    base = tmp_path_factory.getbasetemp()
    with embedded_server((base if worker_id == "master" else base.parent) / "embedded") as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """The name of a database with the schema in it, that nobody connects to."""
    return template_database(server.conninfo_for("postgres"))


@pytest.fixture
def empty_url(server: EmbeddedServer) -> Iterator[str]:
    """A new database without docyard's schema."""
    with new_database(server.conninfo_for("postgres")) as made:
        yield made


@pytest.fixture
def url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """A new database with docyard's schema."""
    with new_database(server.conninfo_for("postgres"), template) as made:
        yield made


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A :class:`Database` on a new database with the schema."""
    async with opened(url) as connected:
        yield connected


@pytest.fixture
def embedding_server() -> Iterator[EmbeddingServer]:
    """A real HTTP server that speaks the embeddings API and counts."""
    with EmbeddingServer() as running:
        yield running


@asynccontextmanager
async def opened(url: str, **settings: object) -> AsyncIterator[Database]:
    async with await Database.connect(url, settings=DatabaseSettings(**settings)) as connected:  # type: ignore[arg-type]
        await connected.initialize()
        yield connected
