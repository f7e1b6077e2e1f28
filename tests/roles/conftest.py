"""A database with roles, and a user for each of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.scratch_server import ScratchServer

from docyard_schema import Database
from docyard_schema.roles import grant_roles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docyard_schema.embedded import EmbeddedServer


async def grant(url: str, *, dry_run: bool = False) -> list[str]:
    """What ``docyard db roles`` does."""
    async with await Database.connect(url) as database, database.dedicated() as connection:
        return await grant_roles(connection, database.namespace, dry_run=dry_run)


@pytest.fixture
def member(server: EmbeddedServer) -> Iterator[Callable[..., str]]:
    """Makes users who can log in and have one of the roles, or none; they go after the database has gone.

    Ask for it before the database.
    """
    made: list[str] = []

    def make(role: str = "", options: str = "") -> str:
        name = f"user_{uuid4().hex[:12]}"
        with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN {options}".encode())
            made.append(name)
            if role:
                connection.execute(f"GRANT docyard_{role} TO {name}".encode())
        return name

    yield make
    with psycopg.connect(server.conninfo_for("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def scratch() -> Iterator[ScratchServer]:
    """A server on which nobody has made the roles yet."""
    running = ScratchServer().start()
    yield running
    running.remove()


@pytest.fixture
def granted(member: Callable[..., str], url: str) -> str:
    """A database on which every role has its rights, with one job of a secret payload in it."""
    asyncio.run(grant(url))
    with psycopg.connect(url) as connection:
        connection.execute("SELECT docyard.enqueue('work', '{\"secret\": 1}', unique_key => 'k')")
    return url


@pytest.fixture
def as_member(member: Callable[..., str], granted: str) -> Callable[[str], str]:
    """The URL by which a new user with this role connects."""
    return lambda role: make_conninfo(granted, user=member(role))
