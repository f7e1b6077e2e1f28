from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docyard.reference import settings_markdown, settings_schema
from docyard.settings import setting_names

if TYPE_CHECKING:
    import pytest
    from cli.conftest import Docyard

DOCS = Path(__file__).parents[2] / "docs"


def shown(docyard: Docyard, *arguments: str) -> dict[str, tuple[Any, str]]:
    rows = docyard(*arguments, "config", "show", "--json").json["settings"]
    return {row["name"]: (row["value"], row["from"]) for row in rows}


def test_each_source_wins_over_the_one_before(
    docyard: Docyard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(docyard)["home"] == (".docyard", "default")
    (tmp_path / "docyard.toml").write_text('home = "from-file"\n[pool]\nmax_size = 7\n')
    assert shown(docyard)["home"] == ("from-file", "docyard.toml")
    assert shown(docyard)["pool_max_size"] == (7, "docyard.toml")
    monkeypatch.setenv("DOCYARD_HOME", "from-environment")
    assert shown(docyard)["home"] == ("from-environment", "DOCYARD_HOME")
    assert shown(docyard, "--home", "from-here")["home"] == ("from-here", "the command line")


def test_global_options_stand_before_or_after_the_command(docyard: Docyard, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("poll_seconds = 2\n")
    for arguments in (
        ("--config", "other.toml", "config", "show", "--json"),
        ("config", "show", "--json", "--config", "other.toml"),
    ):
        rows = {row["name"]: row["value"] for row in docyard(*arguments).json["settings"]}
        assert rows["poll_seconds"] == 2


def test_an_empty_variable_is_not_set(docyard: Docyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCYARD_HOME", "")
    assert shown(docyard)["home"] == (".docyard", "default")


def test_secrets_are_masked(docyard: Docyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCYARD_DATABASE_URL", "postgresql://alice:hush@db.example/app")
    monkeypatch.setenv("DOCYARD_DIRECT_DATABASE_URL", "host=db.example dbname=app password=hush")
    monkeypatch.setenv("DOCYARD_EMBEDDING_API_KEY", "sk-hush")
    monkeypatch.setenv("DOCYARD_EMBEDDING_BASE_URL", "http://bob:hush@models.example/v1")
    for ended in (docyard("config", "show"), docyard("config", "show", "--json")):
        assert "hush" not in ended.out
        assert "alice:***@db.example" in ended.out


def test_the_schema_knows_every_setting_flat_and_in_its_table(docyard: Docyard) -> None:
    schema = docyard("config", "schema").json
    assert schema == settings_schema()
    assert schema["properties"].keys() >= setting_names().keys()
    assert schema["properties"]["pool"]["properties"]["max_size"]["x-environment"] == "DOCYARD_POOL_MAX_SIZE"
    assert schema["additionalProperties"] is False


def test_the_page_about_settings_is_what_the_code_says(docyard: Docyard) -> None:
    page = (DOCS / "settings.md").read_text()
    assert page == settings_markdown(), "write it again: docyard config reference > docs/settings.md"
    assert docyard("config", "reference").out == page
    assert all(f"| `{name}` |" in page for name in setting_names())
