from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard


def test_status_of_a_new_database_says_how_to_begin(docyard: Docyard, on_server: str) -> None:
    ended = docyard("status")
    assert ended.code == 0
    assert "healthy" in ended.out
    assert "docyard ingest" in ended.err


def test_status_counts_documents_chunks_vectors_and_jobs(
    docyard: Docyard, on_server: str, library: Path
) -> None:
    docyard("ingest", library, "--work", "-q")
    told = docyard("status", "--json").json
    assert told["backend"] == "server"
    assert told["documents"] == {"file": 3}
    assert told["health"]["status"] == "healthy"
    assert told["schema"]["step"] == told["schema"]["of"]
    assert told["model"]["name"] == "wordllama-256"
    assert told["coverage"]["embedded"] == told["chunks"] > 0
    assert {queue["queue"] for queue in told["queues"]} == {"ingest", "embed"}
    assert told["workers"] == []
    shown = docyard("status").out
    assert "3 file" in shown
    assert "100.0%" in shown


def test_the_embedded_database_is_made_where_home_says(docyard: Docyard, tmp_path: Path) -> None:
    ended = docyard("status", "--home", tmp_path / "a folder" / "yard", "--json")
    assert ended.json["backend"] == "embedded"
    assert (tmp_path / "a folder" / "yard").is_dir()
