"""Fixtures for pytest: ``pytest_plugins = ["docyard.testing.fixtures"]`` in the topmost conftest.py.

=====================  =========  ==============================================================
``docyard_server``     session    URL of a server for tests; override it to use one of yours
``docyard_template``   session    name of the template database, which has the schema
``docyard_url``        test       URL of a new database with the schema, for sync tests
``docyard_database``   test       a :class:`Database` on it; its tests are async (pytest-asyncio)
=====================  =========  ==============================================================

Nothing of docyard or psycopg is imported before a test asks for one of them.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

# In pytest-asyncio's strict mode async fixtures are its own; anyio's plugin takes plain ones.
_async_fixture: Any = pytest.fixture
if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    _async_fixture = pytest_asyncio.fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docyard_schema import Database

__all__ = ["docyard_database", "docyard_server", "docyard_template", "docyard_url"]


@pytest.fixture(scope="session")
def docyard_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the run's Postgres: an embedded one, shared by all of pytest-xdist's processes."""
    from docyard.testing.postgres import embedded_server

    base = tmp_path_factory.getbasetemp()
    # Each process of xdist has a folder of its own below that of the run.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with embedded_server(run / "docyard") as server:
        yield server.conninfo_for("postgres")


@pytest.fixture(scope="session")
def docyard_template(docyard_server: str) -> str:
    """Name of a database that has the schema; made once per server."""
    from docyard.testing.postgres import template_database

    return template_database(docyard_server)


@pytest.fixture
def docyard_url(docyard_server: str, docyard_template: str) -> Iterator[str]:
    """URL of a new database with the schema, gone after the test."""
    from docyard.testing.postgres import new_database

    with new_database(docyard_server, docyard_template) as url:
        yield url


@_async_fixture  # type: ignore[untyped-decorator]
async def docyard_database(docyard_url: str) -> AsyncIterator[Database]:
    """A :class:`Database` on a new database with the schema."""
    from docyard_schema import Database

    async with await Database.connect(docyard_url) as database:
        yield await database.initialize()
