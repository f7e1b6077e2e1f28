"""A server of one's own, and roles with few rights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.scratch_server import ScratchServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docyard_schema.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def running_scratch() -> Iterator[ScratchServer]:
    server = ScratchServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def scratch(running_scratch: ScratchServer) -> Iterator[ScratchServer]:
    """A Postgres over TCP with passwords, which this test may stop and start."""
    yield running_scratch
    if running_scratch._process is None:
        running_scratch.start()


@pytest.fixture
def scratch_url(scratch: ScratchServer) -> Iterator[str]:
    """An empty database there, by URL over TCP."""
    name = f"test_{uuid4().hex[:12]}"
    scratch.execute(f"CREATE DATABASE {name}")
    yield scratch.url(name)
    if scratch._process is None:
        scratch.start()
    scratch.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_role(server: EmbeddedServer) -> Iterator[Callable[..., str]]:
    """Makes roles that can log in and little else. Ask for it before the database whose objects they own."""
    made: list[str] = []

    def make(options: str = "") -> str:
        name = f"role_{uuid4().hex[:12]}"
        _execute(server, f"CREATE ROLE {name} LOGIN {options}")
        made.append(name)
        return name

    yield make
    for name in made:
        _execute(server, f"DROP ROLE {name}")


@pytest.fixture
def run(server: EmbeddedServer) -> Callable[[str, str], None]:
    """Runs a statement as the superuser in the database of a URL."""

    def execute(url: str, statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]

    return execute


@pytest.fixture
def as_role() -> Callable[[str, str], str]:
    """The same database as another user."""
    return lambda url, role: make_conninfo(url, user=role)


def _execute(server: EmbeddedServer, statement: str) -> None:
    with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server, whoever runs it, can read."""
    folder = Path(tempfile.mkdtemp(prefix="test-docyard-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
