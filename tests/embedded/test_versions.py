"""Which PostgreSQL runs, and what is said when none can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from docyard_schema.embedded import EmbeddedServer, binaries
from docyard_schema.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path


def test_sixteen_runs_and_its_data_stay_with_it(new_home: Path) -> None:
    with EmbeddedServer.acquire(new_home, major=16) as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert connection.info.server_version // 10000 == server.version == 16
        assert connection.execute("SELECT lower('Ä')").fetchone() == ("ä",)

    with EmbeddedServer.acquire(new_home) as again, psycopg.connect(again.conninfo) as connection:
        assert connection.info.server_version // 10000 == again.version == 16


def test_data_of_a_version_the_wheel_lacks_are_refused(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(
        EmbeddedError, match=r"made by PostgreSQL 14; .* brings PostgreSQL 16 and PostgreSQL 18"
    ) as error:
        EmbeddedServer.acquire(new_home)
    assert "DOCYARD_DATABASE_URL" in error.value.hint


def test_a_version_the_wheel_lacks_cannot_be_asked_for(new_home: Path) -> None:
    with pytest.raises(EmbeddedError, match="PostgreSQL 12 was asked for"):
        EmbeddedServer.acquire(new_home, major=12)


def test_a_missing_wheel_says_how_to_install_it(new_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "package_folder", lambda: None)
    with pytest.raises(EmbeddedError) as error:
        EmbeddedServer.acquire(new_home)
    assert not new_home.exists()
    assert "docyard[embedded]" in error.value.hint
    assert "DOCYARD_DATABASE_URL" in error.value.hint


def test_settings_reach_the_server(home: Path) -> None:
    settings = {"work_mem": "17MB", "max_connections": "33", "listen_addresses": "*"}
    with (
        EmbeddedServer.acquire(home, settings=settings) as server,
        psycopg.connect(server.conninfo) as connection,
    ):
        names = ("work_mem", "max_connections", "fsync", "listen_addresses", "TimeZone")
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in names]  # type: ignore[arg-type]
    assert shown == [("17MB",), ("33",), ("on",), ("",), ("UTC",)]


def test_a_server_that_does_not_start_tells_its_last_words(home: Path) -> None:
    with pytest.raises(EmbeddedError, match="invalid value for parameter") as error:
        EmbeddedServer.acquire(home, settings={"shared_buffers": "a lot"})
    assert "shared_buffers" in error.value.details["reason"]
    assert str(home / "postgres.log") in error.value.hint

    with EmbeddedServer.acquire(home) as server:  # and harms no later start
        psycopg.connect(server.conninfo).close()


def test_a_folder_with_other_files_is_not_taken_for_a_data_directory(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "novel.txt").write_text("chapter one")
    with pytest.raises(EmbeddedError, match="is no data directory"):
        EmbeddedServer.acquire(new_home)
