"""Names promise a media type, bytes prove it."""

import gzip
import time

import pytest

from docyard_workers.ingest.errors import UnsupportedMedia
from docyard_workers.ingest.media_type import by_content, by_name, detect
from docyard_workers.ingest.parsing import parser_for, supported
from docyard_workers.ingest.parsing.registry import _MODULES


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", "text/plain"), ("a.MD", "text/markdown"), ("a.b.html", "text/html"),
        ("x.rst", "text/x-rst"),
        ("x.json", "application/json"), ("x.ndjson", "application/x-ndjson"), ("x.csv", "text/csv"),
        ("x.tsv", "text/tab-separated-values"), ("x.py", "text/x-python"), ("Cargo.toml", "text/x-toml"),
        ("docker-compose.yml", "text/x-yaml"), ("README", "text/plain"), ("LICENSE", "text/plain"),
        ("LICENSE.MIT", "text/plain"), ("METADATA", "text/x-package-metadata"),
        ("PKG-INFO", "text/x-package-metadata"),
        ("Makefile", "text/x-makefile"), ("Dockerfile", "text/x-dockerfile"),
        ("/deep/er/a.rs", "text/x-rust"),
        ("a.png", None), ("noextension", None), (".env", None), ("", None),
    ],
)  # fmt: skip
def test_names(name, media_type):
    assert by_name(name) == media_type


def test_every_type_a_name_can_promise_has_a_parser():
    from docyard_workers.ingest import media_type

    for promised in {*media_type._BY_EXTENSION.values(), *media_type._BY_NAME.values(), *_MODULES}:
        assert supported(promised)
        assert callable(parser_for(promised).parse)


def test_an_unsupported_type_is_refused_with_the_list():
    with pytest.raises(UnsupportedMedia) as caught:
        parser_for("application/pdf")
    assert "text/markdown" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04rest", "application/zip"),
        (gzip.compress(b"text" * 100, mtime=0), "application/gzip"),
        (b"\x00\x01\x02\x03" * 10, "application/octet-stream"),
        (bytes(range(256)), "application/octet-stream"),
        (b"<!DOCTYPE html><p>x", "text/html"),
        (b"\xef\xbb\xbf \n<?xml version='1.0'?><!-- a --><!-- b -->\n<HTML>", "text/html"),
        (b"plain words", None),
        (b"", None),
        ("résumé naïve".encode("latin-1"), None),
        ("日本語".encode("shift_jis") * 10, None),
        ("word".encode("utf-16"), None),
        (("plain words " * 5).encode("utf-16-le"), None),
        (("plain words " * 5).encode("utf-16-be"), None),
        ("word".encode("utf-32"), None),
        (b"a log with one stray \x00 among many other letters", None),
        (b"\x1b[31mred\x1b[0m\n", None),
    ],
)
def test_bytes(data, media_type):
    assert by_content(data) == media_type


def test_bytes_overrule_names_where_they_prove_them_wrong():
    assert detect("notes.txt", b"<!doctype html><title>x</title>") == "text/html"
    assert detect("unknown.xyz", b"words") == "text/plain"
    assert detect("page.md", b"<html>in a Markdown file</html>") == "text/markdown"
    with pytest.raises(UnsupportedMedia, match=r"'a\.txt'.*promises text/plain.*image/png"):
        detect("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00")
    with pytest.raises(UnsupportedMedia, match="octet-stream"):
        detect("blob", b"\x00" * 100)


def test_many_comments_before_a_page_take_no_time():
    began = time.process_time()
    assert by_content(b"<!---->" * 1000 + b"<p>") is None
    assert by_content(b"<!---->" * 1000 + b"<html>") == "text/html"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["changelog.gz", "README.pdf", "NEWS.Debian.gz", "license.png"])
def test_a_known_name_with_the_extension_of_a_binary_promises_nothing(name):
    assert by_name(name) is None


def test_a_known_name_with_an_extension_of_its_own_is_text():
    assert by_name("README.Debian") == "text/plain"
