from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from docyard.batch import KindProgress
from docyard.cli.progress import Lines

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Docyard


@pytest.fixture(autouse=True)
def _database(on_server: str) -> None:
    """Every test has a database of its own."""


def test_work_reads_embeds_and_sums_up(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library, "--work")
    assert ended.code == 0
    assert "Files: 3 new of 3" in ended.out
    assert "3 embedded" in ended.out
    assert "no parser: 1 file (.xyz 1)" in ended.err


def test_a_second_run_finds_nothing_changed_and_a_third_one_the_changed_file(
    docyard: Docyard, library: Path
) -> None:
    docyard("ingest", library, "--work")
    again = docyard("ingest", library, "--work", "--json").json["summary"]
    assert (again["created"], again["updated"], again["unchanged"], again["embedded"]) == (0, 0, 3, 0)
    (library / "whales.md").write_text(
        (library / "whales.md").read_text().replace("It eats krill", "It eats tiny krill")
    )
    changed = docyard("ingest", library, "--work", "--json").json["summary"]
    assert (changed["created"], changed["updated"], changed["unchanged"]) == (0, 1, 2)
    assert changed["embedded"] == 1


def test_without_work_it_only_enqueues_and_says_how_to_go_on(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library)
    assert ended.code == 0
    assert "3 jobs enqueued as batch" in ended.out
    assert "docyard worker" in ended.err
    assert len(docyard("jobs", "list", "--state", "available", "--json").json) == 3


def test_globs_collections_and_tags_are_taken(docyard: Docyard, library: Path) -> None:
    ended = docyard(
        "ingest", library, "--work", "-c", "sea", "-t", "wet", "--include", "*.md", "--include", "*.txt",
        "--exclude", "tides*", "--json",
    )  # fmt: skip
    assert ended.json["files"] == 1
    hits = docyard("search", "whale", "--collection", "sea", "--json").json["hits"]
    assert [hit["title"] for hit in hits] == ["Whales"]
    assert docyard("search", "whale", "--collection", "land", "--json").json["hits"] == []


def test_json_tells_files_refusals_and_what_became_of_them(docyard: Docyard, library: Path) -> None:
    told = docyard("ingest", library, "--work", "--json").json
    assert told["files"] == 3
    assert told["unsupported"] == {".xyz": 1}
    assert told["refused"] == []
    summary = told["summary"]
    assert (summary["created"], summary["failed"], summary["jobs"], summary["failures"]) == (3, 0, 6, [])
    assert summary["chunks"] == summary["embedded"] >= 3
    assert told["seconds"] > 0


def test_paths_that_do_not_exist_are_wrong_use(docyard: Docyard) -> None:
    ended = docyard("ingest", "nowhere", "neither", "--work")
    assert ended.code == 2
    assert "error: Nothing there: nowhere, neither." in ended.err


def test_of_some_paths_that_exist_the_others_are_reported(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library, "nowhere", "--work")
    assert ended.code == 1
    assert "Files: 3 new of 3" in ended.out
    assert "nowhere: No such file" in ended.err


def test_a_dangling_link_in_a_folder_fails_nothing(docyard: Docyard, library: Path) -> None:
    (library / "gone.md").symlink_to("nothing.md")
    ended = docyard("ingest", library, "--work")
    assert ended.code == 0
    assert "gone.md" in ended.err


def test_a_file_that_cannot_be_parsed_is_named_with_the_reason(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library / "picture.xyz", library, "--work")
    assert ended.code == 1
    assert "3 new, 1 failed of 4" in ended.out
    assert "picture.xyz" in ended.err
    assert "docyard jobs retry" in ended.err


def test_an_empty_folder_is_no_failure(docyard: Docyard, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = docyard("ingest", "empty", "--work")
    assert ended.code == 0
    assert "No files to ingest in empty" in ended.err


def test_a_malformed_glob_is_wrong_use(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library, "--include", "!", "--work")
    assert ended.code == 2
    assert "error:" in ended.err


def test_quiet_says_only_the_outcome(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library, "--work", "--quiet")
    assert "Files: 3 new" in ended.out
    assert ended.err == ""


def test_without_a_terminal_progress_is_structured_lines(docyard: Docyard, library: Path) -> None:
    ended = docyard("ingest", library, "--work")
    events = [json.loads(line)["event"] for line in ended.err.splitlines() if line.startswith("{")]
    assert events == ["ingest.enqueued", "worker.started", "worker.stopped", "ingest.finished"]


def test_a_progress_line_has_counts_rate_and_time_left(
    docyard: Docyard, capsys: pytest.CaptureFixture[str]
) -> None:
    from docyard.logs import configure

    configure("info", "json")
    Lines(seconds=0).update(
        {"ingest": KindProgress(total=10, ended=5, dead=1), "embed": KindProgress(total=4, ended=2)}
    )
    told = json.loads(capsys.readouterr().err)
    assert told["event"] == "ingest.progress"
    assert (told["files"], told["files_done"], told["embeds_done"], told["failed"]) == (10, 5, 2, 1)
    assert told["files_per_s"] > 0
    assert told["eta_s"] is not None
