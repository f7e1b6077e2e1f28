"""Reading a source gives all of its bytes or a typed reason, and waits for nobody."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.unprivileged import open_folder, ordinary_user

from docyard_workers.ingest import sources
from docyard_workers.ingest.errors import (
    SourceChanged,
    SourceMissing,
    SourceTooLarge,
    SourceUnreadable,
    UnsupportedSource,
)
from docyard_workers.ingest.sources import find_files, read_source


def test_a_path_and_its_uri_give_the_same(tmp_path):
    path = tmp_path / "a b%20#?é.txt"
    path.write_bytes(b"bytes\0and more")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    by_path, by_uri = read_source(path), read_source(path.as_uri())
    assert by_path == by_uri == read_source(str(path))
    assert by_path.data == b"bytes\0and more"
    assert by_path.name == "a b%20#?é.txt"
    assert by_path.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert read_source(f"file://localhost{path.as_uri().removeprefix('file://')}").data == by_path.data


def test_a_name_that_is_no_unicode_survives_the_uri(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(path)).write_bytes(b"x")
    (found,) = find_files([tmp_path])
    assert found.source_uri.isascii()
    assert found.source_uri.endswith("/caf%E9.txt")
    read = read_source(found.source_uri)
    assert (read.data, read.name) == (b"x", "caf\ufffd.txt")


def test_an_empty_file_is_read(tmp_path):
    (tmp_path / "empty").touch()
    assert read_source(tmp_path / "empty").data == b""


@pytest.mark.parametrize("below", ["gone.txt", "file/below-a-file"])
def test_a_missing_path_names_the_host(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(SourceMissing, match=os.uname().nodename) as caught:
        read_source(tmp_path / below)
    assert not caught.value.retryable
    assert "mount" in caught.value.hint


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)  # the address has room for 108 bytes
        try:
            bound.bind("socket")
        finally:
            os.chdir(here)
            os.close(here)
        for name, said in (
            ("fifo", "FIFO"),
            ("socket", "cannot be read|socket"),
            (".", "folder"),
            ("/dev/zero", "device"),
        ):
            with pytest.raises(SourceUnreadable, match=said):
                read_source(tmp_path / name)


def test_a_link_to_itself_is_unreadable(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceUnreadable):
        read_source(tmp_path / "loop")


def test_no_permission_is_unreadable():
    with open_folder() as folder:
        (folder / "secret").touch(mode=0)
        with ordinary_user(), pytest.raises(SourceUnreadable):
            read_source(folder / "secret")


def test_too_large_says_how_large(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 11)
    assert len(read_source(tmp_path / "big", 11).data) == 11
    with pytest.raises(SourceTooLarge) as caught:
        read_source(tmp_path / "big", 10)
    assert (caught.value.details["size"], caught.value.details["max_bytes"]) == (11, 10)


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_a_file_that_changes_while_it_is_read_may_be_tried_again(tmp_path, monkeypatch, change):
    path = tmp_path / "busy"
    path.write_bytes(b"x" * 100)
    real = os.read

    def read_and_change(descriptor, count):
        data = real(descriptor, count)
        if change == "touch":
            os.utime(path, (1, 1))
        else:
            os.truncate(path, 150 if change == "grow" else 50)
        return data

    monkeypatch.setattr(sources.os, "read", read_and_change)
    with pytest.raises(SourceChanged) as caught:
        read_source(path)
    assert caught.value.retryable


@pytest.mark.parametrize("uri", ["s3://bucket/key", "https://example.org/a.html", "ftp://h/x"])
def test_an_unknown_scheme_lists_those_that_are_known(uri):
    with pytest.raises(UnsupportedSource) as caught:
        read_source(uri)
    assert "file" in caught.value.hint


@pytest.mark.parametrize("uri", ["file://otherhost/etc/x", "file:relative"])
def test_a_file_uri_of_elsewhere_is_refused(uri):
    with pytest.raises(UnsupportedSource):
        read_source(uri)


def test_a_colon_in_a_relative_path_is_no_scheme(tmp_path, monkeypatch):
    (tmp_path / "notes:today.md").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert read_source("notes:today.md").data == b"x"


def test_a_nul_in_a_path_is_missing():
    with pytest.raises(SourceMissing):
        read_source("/tmp/a\0b")
