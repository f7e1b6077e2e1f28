"""A source's bytes: today a path or a ``file://`` URI.

Another scheme is another function in ``_READERS``; nothing else asks where bytes come from.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from docyard_workers.ingest.errors import (
    SourceChanged,
    SourceMissing,
    SourceTooLarge,
    SourceUnavailable,
    SourceUnreadable,
    UnsupportedSource,
)
from docyard_workers.ingest.walk import MAX_BYTES, FoundFile, Refused, find_files, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_BYTES", "FoundFile", "Refused", "SourceBytes", "find_files", "read_source"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?(?=.)")
_BLOCK = 1 << 20
_REFUSED = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EISDIR}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBytes:
    """All bytes of a source; ``name`` is its last part, fit for showing.

    ``modified_at`` is ``None`` where the source does not say.
    """

    uri: str
    data: bytes
    modified_at: datetime | None
    name: str


def read_source(source: str | Path, max_bytes: int = MAX_BYTES) -> SourceBytes:
    """The bytes of a path or URI, whole or not at all.

    A path is looked up on the host this runs on. Never waits on a FIFO or a device. Raises
    :class:`~docyard_workers.ingest.errors.SourceError`; changing while being read is retryable.
    """
    text = os.fspath(source)
    scheme = _SCHEME.match(text)
    if (
        isinstance(source, Path)
        or scheme is None
        or ("://" not in text and scheme[1].lower() not in _READERS)
    ):
        return _read_file(text, max_bytes)
    reader = _READERS.get(scheme[1].lower())
    if reader is None:
        raise UnsupportedSource(
            f"no reader for {scheme[1]}:// sources",
            hint=f"Give a path, or a URI with one of these schemes: {', '.join(sorted(_READERS))}.",
            operation="ingest.read",
            source=text,
        )
    return reader(text, max_bytes)


def _read_uri(uri: str, max_bytes: int) -> SourceBytes:
    host, slash, path = uri.partition(":")[2].removeprefix("//").partition("/")
    if not uri.lower().startswith("file://") or not slash or host not in ("", "localhost"):
        raise UnsupportedSource(
            f"expected file:///absolute/path, got {uri!r}",
            hint="Files of other hosts are not read: run a worker there, or mount the folder.",
            operation="ingest.read",
            source=uri,
        )
    return _read_file("/" + os.fsdecode(unquote_to_bytes(path)), max_bytes)


_READERS: dict[str, Callable[[str, int], SourceBytes]] = {"file": _read_uri}


def _read_file(given: str, max_bytes: int) -> SourceBytes:
    path = Path(os.path.abspath(given))  # noqa: PTH100 (keeps links, drops "..")
    uri = path.as_uri()
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer that may never come.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            before = os.fstat(descriptor)
            _check(before, uri, max_bytes)
            data = _read_all(descriptor, min(before.st_size, max_bytes))
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except ValueError as error:  # a NUL in the path
        raise SourceMissing(f"not a path: {error}", operation="ingest.read", source=uri) from None
    except OSError as error:
        raise _translate(error, uri) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(
        data
    ) != after.st_size:
        raise SourceChanged(f"{uri} changed while it was read", operation="ingest.read", source=uri)
    modified_at = datetime.fromtimestamp(after.st_mtime, UTC)
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return SourceBytes(uri=uri, data=data, modified_at=modified_at, name=name)


def _check(status: os.stat_result, uri: str, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SourceUnreadable(
            f"{uri} is a {kind_of(status.st_mode)}, not a file", operation="ingest.read", source=uri
        )
    if status.st_size > max_bytes:
        raise SourceTooLarge(
            f"{uri} has {status.st_size} bytes, more than the {max_bytes} allowed",
            operation="ingest.read",
            source=uri,
            size=status.st_size,
            max_bytes=max_bytes,
        )


def _read_all(descriptor: int, expected: int) -> bytes:
    """Up to one byte more than expected: enough to see that the file grew."""
    data = bytearray()
    while block := os.read(descriptor, min(_BLOCK, expected + 1 - len(data))):
        data += block
        if len(data) > expected:
            break
    return bytes(data)


def _translate(error: OSError, uri: str) -> SourceMissing | SourceUnreadable | SourceUnavailable:
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceMissing(
            f"the host {os.uname().nodename} does not have {uri}",
            hint="Run a worker where the files are, or mount them there under the same path.",
            operation="ingest.read",
            source=uri,
        )
    if error.errno in _REFUSED:
        return SourceUnreadable(f"{uri} cannot be read: {reason}", operation="ingest.read", source=uri)
    return SourceUnavailable(f"{uri} cannot be read for now: {reason}", operation="ingest.read", source=uri)
