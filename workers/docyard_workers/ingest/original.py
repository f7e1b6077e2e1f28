"""The exact text of a source, where it is text: what hashes and signatures are checked against."""

from __future__ import annotations

from docyard_workers.ingest.decoding import decode


def exact_text(data: bytes, media_type: str) -> tuple[str | None, str | None]:
    """The text that gives back exactly ``data`` when encoded, and its encoding; None for UTF-8.

    ``(None, None)`` when there is no such text, or Postgres could not keep it (a NUL in it): then the
    original lives in the source, or in the blob store.
    """
    if b"\x00" in data:
        return None, None
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        pass
    encoding = decode(data, media_type).encoding
    try:
        text = data.decode(encoding)
        if text.encode(encoding) == data and "\x00" not in text:
            return text, encoding
    except (UnicodeError, LookupError):
        pass
    return None, None
