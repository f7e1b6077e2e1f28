"""Every mistake has an exit code, a message, and the way out; none has a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard


def test_no_server_answers(docyard: Docyard) -> None:
    ended = docyard("--database-url", "postgresql://alice:secret@127.0.0.1:1/app", "status")
    assert ended.code == 1
    assert "error: Cannot connect to" in ended.err
    assert "no server answers there" in ended.err
    assert "secret" not in ended.err


def test_no_such_database(docyard: Docyard, url: str) -> None:
    ended = docyard("status", "--database-url", make_conninfo(url, dbname="not_there"))
    assert ended.code == 1
    assert "createdb not_there" in ended.err


def test_no_such_user(docyard: Docyard, url: str) -> None:
    ended = docyard("status", "--database-url", make_conninfo(url, user="nobody_here"))
    assert ended.code == 1
    assert "nobody_here" in ended.err


@pytest.mark.parametrize("command", [("status",), ("search", "x"), ("jobs", "list"), ("ingest", ".")])
def test_a_server_without_the_schema(docyard: Docyard, empty_url: str, command: tuple[str, ...]) -> None:
    ended = docyard(*command, "--database-url", empty_url)
    assert ended.code == 1
    assert "Run: docyard db migrate" in ended.err


def test_a_worker_process_that_could_not_work_ends(docyard: Docyard, empty_url: str) -> None:
    ended = docyard("worker", "--processes", 2, "--database-url", empty_url)
    assert ended.code == 1
    assert "Run: docyard db migrate" in ended.err


def test_a_schema_that_is_newer(docyard: Docyard, url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO docyard.schema_migrations (number, name, sha256) VALUES (999, 'future', 'x')"
        )
    ended = docyard("status", "--database-url", url)
    assert ended.code == 1
    assert "pip install --upgrade docyard" in ended.err


@pytest.mark.parametrize("malformed", ["postgres//x", "postgresql://a:p@ss@b:c/d", "nonsense"])
def test_a_malformed_url(docyard: Docyard, malformed: str) -> None:
    ended = docyard("status", "--database-url", malformed)
    assert ended.code == 2
    assert "postgresql://user:password@host:5432/database" in ended.err


def test_an_unknown_setting_in_the_environment(docyard: Docyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCYARD_DATABSE_URL", "postgresql://x/y")
    ended = docyard("status")
    assert ended.code == 2
    assert "Unknown setting: DOCYARD_DATABSE_URL" in ended.err
    assert "DOCYARD_DATABASE_URL?" in ended.err


def test_an_unknown_setting_in_the_file(docyard: Docyard, tmp_path: Path) -> None:
    (tmp_path / "docyard.toml").write_text("[pool]\nmaximum = 3\n")
    ended = docyard("status")
    assert ended.code == 2
    assert "pool_maximum (in docyard.toml)" in ended.err


def test_an_unusable_value(docyard: Docyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCYARD_POOL_MAX_SIZE", "many")
    ended = docyard("status")
    assert ended.code == 2
    assert "pool_max_size (from DOCYARD_POOL_MAX_SIZE)" in ended.err
    assert "'many'" in ended.err


def test_a_settings_file_that_is_not_there(docyard: Docyard) -> None:
    ended = docyard("--config", "nowhere.toml", "status")
    assert ended.code == 2
    assert "nowhere.toml does not exist" in ended.err


def test_a_settings_file_that_is_no_toml(docyard: Docyard, tmp_path: Path) -> None:
    (tmp_path / "docyard.toml").write_text("pool: 3\n")
    ended = docyard("status")
    assert ended.code == 2
    assert "docyard.toml cannot be read" in ended.err


def test_a_provider_without_its_key(
    docyard: Docyard, on_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCYARD_EMBEDDING_PROVIDER", "openai")
    ended = docyard("search", "x")
    assert ended.code == 2
    assert "OPENAI_API_KEY" in ended.err


@pytest.mark.parametrize(
    "wrong", [("fly",), ("search",), ("search", "x", "--colour"), ("jobs", "show", "seventeen"), ("ingest",)]
)
def test_wrong_use(docyard: Docyard, wrong: tuple[str, ...]) -> None:
    ended = docyard(*wrong)
    assert ended.code == 2
    assert "Usage: docyard" in ended.err


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing", "module:registry"),
        ("no_such_module_here:registry", "there is no module 'no_such_module_here'"),
        ("json:registry", "the module has no 'registry'"),
        ("json:loads", "expected a docyard_queue.Registry, got a function"),
    ],
)
def test_an_app_that_is_none(docyard: Docyard, target: str, said: str) -> None:
    ended = docyard("worker", "--app", target)
    assert ended.code == 2
    assert said in ended.err


def test_a_bug_is_said_in_a_line_and_shown_with_verbose(
    docyard: Docyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("postgresql://a:secret@b/c broke")

    monkeypatch.setattr("docyard.settings.settings_and_origins", broken)
    ended = docyard("status")
    assert ended.code == 1
    assert "error: unexpected RuntimeError" in ended.err
    assert "Traceback" not in ended.err
    told = docyard("-v", "status").err
    assert "Traceback (most recent call last)" in told
    assert "secret" not in told
