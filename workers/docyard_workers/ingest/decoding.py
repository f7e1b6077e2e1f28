"""From bytes to text: byte order marks, UTF-8, what HTML declares, and only then a guess."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from docyard_workers.ingest.errors import ParseFailed
from docyard_workers.ingest.media_type import HTML, wide_encoding

_DECLARED = re.compile(
    rb"""<meta[^<>]+charset\s*=\s*["']?\s*([\w:.-]+)|<\?xml[^<>]+encoding\s*=\s*["']([\w:.-]+)""", re.I
)
# Only encodings of text: Python also knows `idna` and `unicode_escape`, and a page may name any of them.
_ALLOWED = re.compile(
    r"utf-?8|iso-?8859-?\d+|latin-?\d|windows-125\d|cp125\d|koi8-[rut]|shift[_-]?jis|euc-(?:jp|kr|cn)|iso-2022-jp"
    r"|gb2312|gbk|gb18030|big5(?:-hkscs)?|macintosh|mac-?roman|us-ascii|ascii|tis-620|cp(?:437|850|852|866|932|949)",
    re.I,
)
_AS_BROWSERS_DO = {
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
}
_SAMPLE_BYTES = 65_536
_NON_ASCII = re.compile(rb"[^\n]{0,2000}[\x80-\xff][^\n]{0,2000}")
_ALONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
_RUN = re.compile(rb"[\x80-\xff]+")
_WESTERN = ("cp1252", "latin_1")
_ACCENTED = ["cp1252", "cp1250", "cp1254", "cp1257", "iso8859_2", "iso8859_15"]
_WIDE = ["utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_7"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedText:
    """A file's text with ``\\n`` line ends, without marks, NULs or lone surrogates.

    ``warnings`` say what was dropped or guessed.
    """

    text: str
    encoding: str
    warnings: tuple[str, ...] = ()


def decode(data: bytes, media_type: str = "text/plain") -> DecodedText:
    """The text of ``data``.

    No character is invented: bytes that cannot be UTF-8 are read in the encoding that HTML declares or
    that fits them best, Western European first. Raises :class:`ParseFailed` for malformed UTF-16 or UTF-32.
    """
    text, encoding, warnings = _decode(data, media_type)
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text, dropped = drop_nul(text)
    return DecodedText(text=text, encoding=encoding, warnings=(*warnings, *dropped))


def drop_nul(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without NUL characters, which Postgres cannot store, and the warning that says so."""
    count = text.count("\0")
    return (text.replace("\0", ""), (f"{count} NUL characters dropped",)) if count else (text, ())


def _decode(data: bytes, media_type: str) -> tuple[str, str, tuple[str, ...]]:
    wide = wide_encoding(data[:8192])
    if wide is not None:
        return _decode_wide(data, wide)
    declared = _declared(data) if media_type == HTML else None
    if declared == "iso-2022-jp" and (text := _strict(data, declared)) is not None:
        return text, declared, ()
    if (text := _strict(data, "utf-8")) is not None:
        return text, "utf-8", ()
    if declared is not None and (text := _strict(data, declared)) is not None:
        return text, declared, ()
    sample = b"\n".join(_lines_beyond_ascii(data))
    if _is_damaged_utf8(sample):
        return data.decode("utf-8", _REPAIR), "utf-8", ("bytes that are not UTF-8 were read as cp1252",)
    for guess in (_guess(sample), "cp1252"):
        if guess is not None and (text := _strict(data, guess)) is not None:
            return text, guess, (f"not UTF-8; read as {guess}",)
    return data.decode("latin-1"), "latin-1", ("not UTF-8; read as latin-1",)


def _decode_wide(data: bytes, encoding: str) -> tuple[str, str, tuple[str, ...]]:
    try:
        return data.decode(encoding), encoding, ()
    except UnicodeDecodeError as error:
        raise ParseFailed(
            f"the bytes begin like {encoding} but are not: {error.reason} at byte {error.start}",
            operation="ingest.decode",
        ) from None


def _declared(data: bytes) -> str | None:
    found = _DECLARED.search(data[:2048])
    if found is None:
        return None
    name = (found[1] or found[2]).decode("ascii").lower()
    if not _ALLOWED.fullmatch(name):
        return None
    try:
        return _AS_BROWSERS_DO.get(name) or codecs.lookup(name).name
    except LookupError:
        return None


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _lines_beyond_ascii(data: bytes) -> list[bytes]:
    """Up to 64 KiB of the lines that tell encodings apart, wherever in the file they stand."""
    lines, size = [], 0
    for found in _NON_ASCII.finditer(data):
        lines.append(found[0])
        size += len(found[0])
        if size >= _SAMPLE_BYTES:
            break
    return lines


def _is_damaged_utf8(sample: bytes) -> bool:
    """Whether nearly all of it is UTF-8: one bad byte must not turn every other accent into two letters."""
    repaired = sample.decode("utf-8", "ignore")
    good = sum(len(character.encode()) for character in repaired if character > "\x7f")
    bad = len(sample) - len(repaired.encode())
    return good > 10 * bad


def _guess(sample: bytes) -> str | None:
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    # Letters beyond ASCII that stand alone between others are accents; a few of them prove no more than that.
    alone = len(_ALONE.findall(sample)) * 2 > len(_RUN.findall(sample))
    matches = from_bytes(sample, cp_isolation=_ACCENTED if alone else None, cp_exclusion=_WIDE)
    best = matches.best()
    if best is None:
        return None
    for match in matches:
        as_good = match.chaos <= best.chaos and match.coherence >= best.coherence
        if as_good and any(western in match.could_be_from_charset for western in _WESTERN):
            return "cp1252"
    return best.encoding


def _repair(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_BYTES[byte] for byte in bad), error.end


_BYTES = [bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)]
_REPAIR = "docyard-cp1252"
codecs.register_error(_REPAIR, _repair)
