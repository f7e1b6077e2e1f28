"""Connection strings are read with care and told without their secrets."""

from __future__ import annotations

import logging

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.scratch_server import PASSWORD, ScratchServer

from docyard_schema import ConfigError, Database, DatabaseSettings, DatabaseUnavailable
from docyard_schema.connection import connection_arguments
from docyard_schema.connection_string import describe, mask_password, masked

SECRET = "s3cret"


def arguments(
    url: str = "postgresql://h/d", *, direct: bool = False, **settings: object
) -> dict[str, object]:
    return connection_arguments(url, DatabaseSettings(**settings), direct=direct)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "postgres:/alice:s3cret@host/app",
        "alice:s3cret@host/app",
        "postgresql://alice:s3cret%@host/app",
        "postgresql://alice:s3%zzcret@host/app",
        "postgresql://alice:x/s3cret@host/app",
        "postgresql://alice:x@s3cret@host/app",
        "postgresql://alice:s3cret@host:port/app",
        "postgresql://alice:s3cret@host/app?nonsense=s3cret",
        "host=h password='s3cret user=alice",
        "host=h password=x s3cret",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="The database URL cannot be read") as caught:
        arguments(url)
    assert caught.value.code == "config"
    assert "postgresql://user:password@host:5432/database" in caught.value.hint
    told = f"{caught.value} {caught.value.__cause__} {caught.value.details} {describe(url)} {masked(url)}"
    assert SECRET not in told


def test_a_password_is_told_nowhere() -> None:
    url = f"postgresql://alice:{SECRET}@db.example:6432/app?sslpassword={SECRET}"
    assert describe(url) == 'database "app" at db.example:6432 as alice'
    assert conninfo_to_dict(masked(url)) | {"password": "***", "sslpassword": "***"} == conninfo_to_dict(
        masked(url)
    )
    assert SECRET not in masked(url)
    settings = DatabaseSettings(database_url=url, direct_database_url=url)  # type: ignore[arg-type]
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_what_is_not_given_is_told_as_libpq_will_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    assert describe("postgresql://") == 'database "carol" at the local socket:5432 as carol'
    assert describe("service=production") == 'the service "production"'


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://alice:{SECRET}@host/app",
        f"could not open postgresql://alice:x@{SECRET}@host/app, sorry",
        f"host=h password={SECRET} user=a",
        f"host=h password = 'it\\'s {SECRET}' user=a",
        f"PGPASSWORD={SECRET} psql",
        f"postgresql://host/app?user=a&password={SECRET}",
    ],
)
def test_passwords_in_any_text_are_masked(text: str) -> None:
    assert SECRET not in mask_password(text)
    assert "***" in mask_password(text)


def test_a_text_without_a_password_stays_as_it_is() -> None:
    text = 'connection to server at "127.0.0.1", port 5432 failed: FATAL:  role "a" does not exist'
    assert mask_password(text) == text


def test_the_url_wins_over_defaults_and_a_tls_setting_over_the_url() -> None:
    url = "postgresql://h/d?connect_timeout=3&application_name=mine&keepalives=0&sslmode=disable"
    found = arguments(url)
    assert (found["connect_timeout"], found["application_name"], found["keepalives"]) == ("3", "mine", "0")
    assert found["sslmode"] == "disable"
    assert arguments(url, tls_mode="verify-full")["sslmode"] == "verify-full"


def test_a_silent_host_is_noticed_within_a_minute() -> None:
    found = arguments()
    waits = int(found["keepalives_idle"]) + int(found["keepalives_interval"]) * int(found["keepalives_count"])  # type: ignore[call-overload]
    assert waits <= 60
    assert found["tcp_user_timeout"] == 60_000
    assert found["connect_timeout"] == 10


def test_tls_files_are_passed_on() -> None:
    found = arguments(tls_root_certificate="/ca.pem", tls_certificate="/me.pem", tls_key="/me.key")
    assert (found["sslrootcert"], found["sslcert"], found["sslkey"]) == ("/ca.pem", "/me.pem", "/me.key")


def test_options_of_the_url_or_the_environment_stand_behind_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = "-c statement_timeout=60000"
    assert arguments()["options"] == limit
    assert arguments("postgresql://h/d?options=-c%20work_mem%3D8MB")["options"] == f"{limit} -c work_mem=8MB"
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=9MB")
    assert arguments()["options"] == f"{limit} -c work_mem=9MB"
    assert "options" not in arguments(pool_statement_seconds=0)


def test_a_transaction_pooler_gets_no_startup_options_and_no_prepared_statements() -> None:
    pooled = arguments(pooler="transaction")
    assert "options" not in pooled
    assert pooled["prepare_threshold"] is None
    direct = arguments(pooler="transaction", direct=True)
    assert "statement_timeout" in str(direct["options"])
    assert "prepare_threshold" not in direct


async def test_no_error_nor_log_of_a_failed_connection_tells_the_password(
    scratch: ScratchServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for url in (scratch.url("absent"), scratch.url(user="absent"), scratch.url(port=1)):
        with pytest.raises(DatabaseUnavailable) as caught:
            await Database.connect(url)
        told = (
            f"{caught.value} {caught.value!r} {caught.value.details} {caught.value.__cause__!r} {caplog.text}"
        )
        assert PASSWORD not in told
        assert "p%40ss" not in told


async def test_a_database_tells_where_it_is_without_the_password(scratch_url: str) -> None:
    async with await Database.connect(scratch_url) as database:
        for told in (database.describe(), repr(database)):
            assert "127.0.0.1" in told
            assert PASSWORD not in told
            assert "p%40ss" not in told
        async with database.connection() as connection:
            assert PASSWORD not in repr(connection)
        assert isinstance(connection, psycopg.AsyncConnection)
