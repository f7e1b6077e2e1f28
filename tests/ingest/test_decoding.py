"""Bytes become the characters they were written as."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.errors import ParseFailed


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße, Ελλάδα, 日本", "utf-8"),
        ("Grüße, Ελλάδα, 日本", "utf-8-sig"),
        ("Grüße, Ελλάδα, 日本 👩‍👧", "utf-16"),
        ("Grüße, Ελλάδα, 日本 👩‍👧", "utf-32"),
        ("Plain English words of no importance", "utf-16-le"),
        ("Plain English words of no importance", "utf-16-be"),
        ("café", "latin-1"),
        ("Größe der Straße: für Übungen müssen Schüler fünf Äpfel kaufen.", "cp1252"),
        ("It’s a “quoted” word – ok…", "cp1252"),
        ("Привет, мир! Это простой русский текст для проверки кодировки.\n" * 3, "cp1251"),
        ("これは日本語のテキストです。文字コードの判定を試します。\n" * 3, "shift_jis"),
        ("Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi.\n" * 2, "cp1250"),
    ],
)
def test_texts_come_back(text, encoding):
    assert decode(text.encode(encoding)).text == text


def test_an_accent_far_from_the_start_is_found():
    assert decode(b"plain ascii line\n" * 10_000 + "Käse".encode("latin-1")).text.endswith("Käse")


def test_one_bad_byte_leaves_the_other_letters_alone():
    decoded = decode("naïve café été ".encode() * 20 + b"\x92" + " größer".encode())
    assert decoded.text == "naïve café été " * 20 + "’ größer"
    assert decoded.warnings == ("bytes that are not UTF-8 were read as cp1252",)


def test_html_says_its_charset():
    page = '<html><head><meta charset="koi8-r"></head>Привет</html>'
    assert "Привет" in decode(page.encode("koi8-r"), "text/html").text
    page = "<?xml version='1.0' encoding='ISO-8859-1'?><html>“curly” é</html>"
    assert "“curly” é" in decode(page.encode("cp1252"), "text/html").text  # as browsers read it
    assert "é" in decode('<meta charset="koi8-r">é'.encode(), "text/html").text  # UTF-8 is not a coincidence


@pytest.mark.parametrize("charset", ["unicode_escape", "idna", "zlib_codec", "utf-7", "no-such", "x" * 50])
def test_a_charset_that_is_none_is_passed_over(charset):
    page = f'<meta charset="{charset}">caf'.encode() + b"\xe9 \\u0041"
    assert decode(page, "text/html").text.endswith("café \\u0041")


def test_line_ends_are_made_one_and_marks_and_nuls_go():
    decoded = decode(b"\xef\xbb\xbfa\r\nb\rc\nd\0e")
    assert decoded.text == "a\nb\nc\nde"
    assert decoded.warnings == ("1 NUL characters dropped",)


def test_malformed_utf16_is_an_error_not_a_guess():
    with pytest.raises(ParseFailed, match="utf-16"):
        decode(b"\xff\xfea\x00b\x00\x00\xd8c\x00")


@given(st.binary(max_size=300))
def test_any_bytes_give_storable_text_or_a_typed_error(data):
    try:
        text = decode(data, "text/html").text
    except ParseFailed:
        return
    text.encode()
    assert "\0" not in text
    assert "\r" not in text
    assert (
        "\ufffd" not in text
        or b"\xef\xbf\xbd" in data
        or data[:2] in (b"\xff\xfe", b"\xfe\xff")
        or b"\0" in data
    )


def test_ten_megabytes_of_accents_are_decoded_soon():
    began = time.process_time()
    decode("naïve été ".encode("latin-1") * 1_000_000)
    assert time.process_time() - began < 5
