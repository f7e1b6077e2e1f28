"""Each way in which a connection cannot be had, told with what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema import ConnectionRejected, Database, DatabaseError, DatabaseSettings, DatabaseUnavailable
from docyard_schema.connection import require_version
from docyard_schema.connection_failure import unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.scratch_server import ScratchServer


async def failure(url: str, **settings: object) -> DatabaseUnavailable:
    with pytest.raises(DatabaseUnavailable) as caught:
        await Database.connect(url, settings=DatabaseSettings(**settings))  # type: ignore[arg-type]
    error = caught.value
    assert error.operation == "connect"
    assert error.details["reason"]
    assert error.hint
    return error


async def test_a_port_where_nobody_listens() -> None:
    error = await failure("postgresql://alice@127.0.0.1:1/app")
    assert error.code == "database_unavailable"
    assert error.retryable
    assert 'Cannot connect to database "app" at 127.0.0.1:1 as alice: no server answers there.' in str(error)
    assert "pg_isready" in error.hint


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    error = await failure(f"host={tmp_path} user=alice dbname=app")
    assert "no server answers there" in error.message
    assert error.retryable


async def test_a_host_that_nobody_knows() -> None:
    error = await failure("postgresql://alice@no-such-host.invalid/app")
    assert "the host name is not known" in error.message
    assert "getent hosts" in error.hint


async def test_a_wrong_password(scratch: ScratchServer) -> None:
    error = await failure(scratch.url(password="wrong"))
    assert isinstance(error, ConnectionRejected)
    assert error.code == "connection_rejected"
    assert not error.retryable
    assert "did not accept the user or password" in error.message
    assert "DOCYARD_DATABASE_URL" in error.hint


async def test_no_password(scratch: ScratchServer) -> None:
    error = await failure(scratch.url(password=None))
    assert "did not accept the user or password" in error.message
    assert ".pgpass" in error.hint


async def test_a_database_that_is_not_there(scratch: ScratchServer) -> None:
    error = await failure(scratch.url("shop_{x}"), tls_mode="disable")
    assert isinstance(error, ConnectionRejected)
    assert "the server has no such database" in error.message
    assert "createdb shop_{x}" in error.hint
    assert "docyard db migrate" in error.hint


async def test_a_user_that_is_not_there(scratch: ScratchServer) -> None:
    # Over the socket: where a password is asked for, the server does not tell who exists.
    error = await failure(f"host={scratch.folder} port={scratch.port} user=nobody_known dbname=postgres")
    assert "the server has no such user" in error.message
    assert "createuser --pwprompt nobody_known" in error.hint


async def test_a_user_who_may_not_log_in(scratch: ScratchServer) -> None:
    scratch.execute("CREATE ROLE locked_out NOLOGIN")
    try:
        error = await failure(f"host={scratch.folder} port={scratch.port} user=locked_out dbname=postgres")
    finally:
        scratch.execute("DROP ROLE locked_out")
    assert "the user may not log in" in error.message
    assert 'ALTER ROLE "locked_out" LOGIN' in error.hint


async def test_a_database_that_the_user_may_not_enter(scratch: ScratchServer, scratch_url: str) -> None:
    name = scratch_url.rpartition("/")[2]
    scratch.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    scratch.execute("CREATE ROLE visitor LOGIN")
    try:
        error = await failure(f"host={scratch.folder} port={scratch.port} user=visitor dbname={name}")
    finally:
        scratch.execute("DROP ROLE visitor")
    assert "may not connect to this database" in error.message
    assert f'GRANT CONNECT ON DATABASE "{name}"' in error.hint


async def test_tls_demanded_of_a_server_without(scratch: ScratchServer) -> None:
    error = await failure(scratch.url(), tls_mode="require")
    assert isinstance(error, ConnectionRejected)
    assert "TLS is demanded and the server offers none" in error.message
    assert "DOCYARD_TLS_MODE" in error.hint
    by_url = await failure(scratch.url(query="?sslmode=require"))
    assert by_url.details["meaning"] == error.details["meaning"]


async def test_a_server_without_a_free_connection(scratch: ScratchServer, scratch_url: str) -> None:
    name = scratch_url.rpartition("/")[2]
    scratch.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 1")
    url = f"host={scratch.folder} port={scratch.port} user=crowd dbname={name}"
    try:
        with psycopg.connect(url):
            error = await failure(url)
    finally:
        scratch.execute("DROP ROLE crowd")
    assert error.code == "database_unavailable"
    assert error.retryable
    assert "the server has no connection left" in error.message
    assert "DOCYARD_POOL_MAX_SIZE" in error.hint


async def test_the_failure_of_a_stopped_server_passes(scratch: ScratchServer) -> None:
    scratch.stop()
    error = await failure(scratch.url())
    assert error.retryable
    scratch.start()
    await (await Database.connect(scratch.url())).close()


@pytest.mark.parametrize(
    ("said", "meaning", "passes"),
    [
        ("FATAL:  the database system is starting up", "starting or stopping", True),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "a"', "pg_hba.conf", False),
        ('FATAL:  Peer authentication failed for user "a"', "did not accept the user", False),
        ("FATAL:  sorry, too many clients already", "no connection left", True),
        ("ERROR:  unsupported startup parameter in options: statement_timeout", "pooler", False),
        ("received invalid response to SSL negotiation: H", "not a Postgres server", False),
        ("connection timeout expired", "no server answers", True),
        ('connection to server on socket "/x/.s.PGSQL.5432" failed: Permission denied', "socket", False),
        ("SSL error: certificate verify failed", "no TLS connection", False),
        ('root certificate file "/absent.pem" does not exist', "no TLS connection", False),
        ("something nobody thought of", "the connection failed", True),
    ],
)
def test_what_postgres_says_is_understood(said: str, meaning: str, passes: bool) -> None:
    error = unavailable(psycopg.OperationalError(said), "postgresql://h/d")
    assert meaning in error.message
    assert said in error.message
    assert error.retryable is passes
    assert error.hint


@pytest.mark.parametrize(("number", "major"), [(140012, "14"), (90624, "9")])
def test_a_server_that_is_too_old_is_named(number: int, major: str) -> None:
    with pytest.raises(DatabaseError, match=f"PostgreSQL 15 or newer, this server is {major}") as caught:
        require_version(number)
    assert "pg_upgrade" in caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize("number", [150000, 160004, 180001])
def test_servers_from_15_on_will_do(number: int) -> None:
    require_version(number)
