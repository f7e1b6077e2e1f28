"""The fixtures as an application's tests use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from support.queueing import query

from docyard.testing.postgres import new_database, template_database
from docyard_schema import Database

if TYPE_CHECKING:
    from docyard_schema.embedded import EmbeddedServer

CONFTEST = 'pytest_plugins = ["docyard.testing.fixtures"]\n'

TESTS = """
import psycopg
import pytest

from docyard.testing import assert_enqueued, drain, enqueued
from docyard_queue import NewJob, Registry, enqueue

registry = Registry()

@registry.handler("greet")
async def greet(attempt, payload):
    return "hello"

@pytest.mark.parametrize("time", [1, 2])
def test_sync(docyard_url, time):
    with psycopg.connect(docyard_url) as connection:
        assert enqueued(connection) == []
        enqueue(connection, NewJob("greet"))
    assert_enqueued(docyard_url, "greet", count=1)

@pytest.mark.asyncio
async def test_async(docyard_database):
    async with docyard_database.transaction() as connection:
        await connection.execute("SELECT docyard.enqueue('greet')")
    assert (await drain(docyard_database, registry)).done == 1
"""


def _pytest(folder: Path, conftest: str, *options: str) -> str:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_app.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error",
         "-o", "asyncio_default_fixture_loop_scope=function", *options,
         f"--rootdir={folder}", f"--basetemp={folder}/run", folder],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_an_application_gets_a_database_for_each_test(tmp_path: Path, options: list[str]) -> None:
    assert "3 passed" in _pytest(tmp_path, CONFTEST, *options)


def test_a_server_of_ones_own_can_be_used(tmp_path: Path, server: EmbeddedServer, template: str) -> None:
    own = f"""
import pytest

@pytest.fixture(scope="session")
def docyard_server():
    return {server.conninfo_for("postgres")!r}
"""
    assert "3 passed" in _pytest(tmp_path, CONFTEST + own)


async def test_a_template_is_made_once_and_has_the_schema(server: EmbeddedServer, template: str) -> None:
    url = server.conninfo_for("postgres")
    assert template_database(url) == template
    with new_database(url, template) as made:
        async with await Database.connect(made) as database:
            await database.initialize()
            assert await query(database, "SELECT FROM docyard.jobs") == []


def test_a_database_is_dropped_although_somebody_is_connected(server: EmbeddedServer) -> None:
    url = server.conninfo_for("postgres")
    with new_database(url) as made:
        left = psycopg.connect(made)
        name = left.info.dbname
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None
    left.close()


@pytest.mark.slow
def test_the_example_passes(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "test_billing.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
         f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/run", example],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
