"""Finding files: what is taken, what is passed over, what is refused and why."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.unprivileged import open_folder, ordinary_user

from docyard_schema.errors import InvalidInput
from docyard_workers.ingest.walk import FoundFile, Refused, find_files


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def taken(root: Path, *arguments, **options) -> list[str]:
    found = find_files(arguments or [root], **options)
    return [os.path.relpath(item.path, root) for item in found if isinstance(item, FoundFile)]


def refused(root: Path, *arguments, **options) -> dict[str, str]:
    found = find_files(arguments or [root], **options)
    return {os.path.relpath(item.path, root): item.code for item in found if isinstance(item, Refused)}


def test_files_come_in_a_stable_order_with_what_is_known_of_them(tmp_path):
    make(tmp_path, "b.md", "a.txt", "sub/z.html", "sub/deeper/y.py", "Empty.md")
    (tmp_path / "Empty.md").write_text("")
    os.utime(tmp_path / "a.txt", (1_700_000_000, 1_700_000_000))
    found = list(find_files([tmp_path]))
    assert [item.path.relative_to(tmp_path).as_posix() for item in found] == [
        "Empty.md", "a.txt", "b.md", "sub/z.html", "sub/deeper/y.py",
    ]  # fmt: skip
    assert found[0].size == 0
    assert found[1] == FoundFile(
        path=tmp_path / "a.txt",
        source_uri=(tmp_path / "a.txt").as_uri(),
        size=5,
        modified_at=datetime.fromtimestamp(1_700_000_000, UTC),
    )


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    make(tmp_path, "docs/a.md")
    monkeypatch.chdir(tmp_path / "docs")
    (found,) = find_files(["../docs/./a.md"])
    assert found.path == tmp_path / "docs" / "a.md"


def test_habits_are_passed_over_in_silence(tmp_path):
    make(
        tmp_path, ".env", ".git/config.txt", ".github/a.md", "node_modules/x/README.md", "venv/a.py", "a.pyc",
        "a.md~", "__pycache__/a.py", "x.egg-info/PKG-INFO",
        ".a.md.swp", ".docyard/a.txt", ".DS_Store", "kept.md",
    )  # fmt: skip
    assert taken(tmp_path) == ["kept.md"]
    assert refused(tmp_path) == {}


def test_gitignore_files_are_honoured_deeper_ones_first(tmp_path):
    make(
        tmp_path,
        "a.log",
        "keep.log",
        "build/x.md",
        "docs/build/y.md",
        "docs/b.log",
        "docs/secret.md",
        ".hidden.md",
    )
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n!.hidden.md\n[bad\n# comment\n")
    (tmp_path / "docs" / ".gitignore").write_text("!b.log\n/secret.md\n")
    assert taken(tmp_path) == [".hidden.md", "keep.log", "docs/b.log", "docs/build/y.md"]


def test_a_file_that_is_named_itself_is_always_taken(tmp_path):
    make(tmp_path, ".env", "picture.png", "node_modules/a.md")
    (tmp_path / ".gitignore").write_text("*\n")
    names = [".env", "picture.png", "node_modules/a.md"]
    assert taken(tmp_path, *(tmp_path / name for name in names)) == names


def test_a_hidden_folder_that_is_named_itself_is_walked(tmp_path):
    make(tmp_path, ".notes/a.md", ".notes/.b.md")
    assert taken(tmp_path, tmp_path / ".notes") == [".notes/a.md"]


def test_include_restricts_and_overrules_ignored_files_but_not_folders(tmp_path):
    make(tmp_path, "a.md", "b.txt", "c.weird", "docs/d.md", "node_modules/e.md", "f.log")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert taken(tmp_path, include=["*.md"]) == ["a.md", "docs/d.md"]
    assert taken(tmp_path, include=["/docs/"]) == ["docs/d.md"]
    assert taken(tmp_path, include=["*.weird", "*.log"]) == ["c.weird", "f.log"]
    assert refused(tmp_path, include=["*.md"]) == {}


def test_exclude_always_wins(tmp_path):
    make(tmp_path, "a.md", "drafts/b.md", "drafts/keep.md", "c.txt")
    assert taken(tmp_path, exclude=["drafts/"]) == ["a.md", "c.txt"]
    assert taken(tmp_path, include=["*.md"], exclude=["drafts/*", "!drafts/keep.md"]) == [
        "a.md",
        "drafts/keep.md",
    ]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_malformed_globs_are_refused_before_the_first_file(tmp_path, option):
    with pytest.raises(InvalidInput, match=option):
        find_files([tmp_path], **{option: ["!"]})
    with pytest.raises(InvalidInput, match="one string"):
        find_files([tmp_path], **{option: "*.md"})
    with pytest.raises(InvalidInput, match="one string"):
        find_files(str(tmp_path))


def test_what_cannot_be_ingested_is_refused_with_its_code(tmp_path):
    make(tmp_path, "picture.png", "noextension", "big.txt")
    (tmp_path / "big.txt").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "dangling.md").symlink_to("nowhere")
    (tmp_path / "self.md").symlink_to("self.md")
    assert [item.code for item in find_files(["a\0b"])] == ["not_found"]
    assert refused(tmp_path, tmp_path, tmp_path / "gone", max_bytes=10) == {
        "picture.png": "unsupported",
        "noextension": "unsupported",
        "big.txt": "too_large",
        "pipe.txt": "not_a_file",
        "dangling.md": "not_found",
        "self.md": "unreadable",
        "gone": "not_found",
    }


def test_a_folder_without_permission_is_refused_and_the_walk_goes_on():
    with open_folder() as folder:
        make(folder, "locked/a.md", "z.md")
        (folder / "locked").chmod(0)
        with ordinary_user():
            assert refused(folder) == {"locked": "unreadable"}
            assert taken(folder) == ["z.md"]
        (folder / "locked").chmod(0o700)


def test_links_are_followed_once_and_loops_end(tmp_path):
    make(tmp_path, "real/a.md", "elsewhere/b.md", "top/c.md")
    (tmp_path / "top/loop").symlink_to(tmp_path / "top")
    (tmp_path / "top/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top/0.md").symlink_to(tmp_path / "real/a.md")
    (tmp_path / "top/again.md").symlink_to("c.md")
    assert taken(tmp_path, tmp_path / "top") == ["top/c.md", "top/0.md", "top/linked/b.md"]
    assert sorted(taken(tmp_path)) == ["elsewhere/b.md", "real/a.md", "top/c.md"]


def test_overlapping_paths_give_each_file_once(tmp_path):
    make(tmp_path, "docs/a.md", "docs/sub/b.md")
    paths = [tmp_path / "docs/sub/b.md", tmp_path / "docs", tmp_path / "docs/sub", tmp_path / "docs/a.md"]
    assert taken(tmp_path, *paths) == ["docs/sub/b.md", "docs/a.md"]


def test_a_file_named_after_its_folder_is_taken_whatever_its_kind(tmp_path):
    make(tmp_path, "docs/a.md", "docs/data.xyz")
    assert taken(tmp_path, tmp_path / "docs", tmp_path / "docs/data.xyz") == ["docs/a.md", "docs/data.xyz"]
    assert taken(tmp_path, tmp_path / "docs/data.xyz", tmp_path / "docs") == ["docs/data.xyz", "docs/a.md"]


def test_two_names_of_one_inode_are_two_documents(tmp_path):
    make(tmp_path, "a.md")
    os.link(tmp_path / "a.md", tmp_path / "b.md")
    assert taken(tmp_path) == ["a.md", "b.md"]


def test_names_of_any_bytes_pass(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.md")).write_text("x")
    make(tmp_path, "new\nline.md")
    assert [item.source_uri.rpartition("/")[2] for item in find_files([tmp_path])] == [
        "new%0Aline.md",
        "%FF%FE.md",
    ]


def test_a_deep_tree_needs_no_deep_stack(tmp_path):
    deepest = tmp_path / "root" / "/".join("d" * sys.getrecursionlimit())
    try:
        subprocess.run(["mkdir", "-p", deepest], check=True)
        (deepest / "a.md").touch()
        assert len(taken(tmp_path)) == 1
    finally:  # pytest's own cleaning needs a deep stack
        subprocess.run(["rm", "-rf", tmp_path / "root"], check=True)


def test_the_walk_streams(tmp_path):
    make(tmp_path, "a/1.md", "b/2.md")
    walk = find_files([tmp_path])
    assert next(walk).path.name == "1.md"
    make(tmp_path, "b/3.md")
    assert [item.path.name for item in walk] == ["2.md", "3.md"]
