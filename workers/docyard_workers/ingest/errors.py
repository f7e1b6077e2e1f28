"""What can go wrong between a path and its chunks.

::

    DocyardError
    └── IngestError
        ├── SourceError
        │   ├── SourceMissing      this host does not have the path
        │   ├── SourceUnreadable   no permission, or not a file
        │   ├── SourceUnavailable  the storage failed; retryable
        │   ├── SourceTooLarge     more bytes than allowed
        │   ├── SourceChanged      written while it was read; retryable
        │   └── UnsupportedSource  a scheme nobody reads
        ├── UnsupportedMedia       no parser for what the bytes are
        ├── ParserMissing          the parser's library is not installed here
        ├── PoolClosed             the worker stops before the call began; retryable
        └── ParseError
            ├── ParseFailed        the parser refused the document
            ├── ParserMemory       the document needs more memory than the cap
            ├── ParseTimeout       the deadline passed; retryable
            └── ParserCrashed      the child process died; retryable

A timeout or a crash may be the machine's fault (load, the kernel's memory killer), so both may be
tried again: the job's ``max_attempts`` bounds them.
"""

from __future__ import annotations

from typing import ClassVar

from docyard_schema.errors import DocyardError


class IngestError(DocyardError):
    """A document could not be read, parsed or chunked."""

    code = "ingest"


class SourceError(IngestError):
    """The bytes of a source could not be had; ``details["source"]`` names it."""

    code = "source"


class SourceMissing(SourceError):
    """The host of this worker does not have the path."""

    code = "source_missing"


class SourceUnreadable(SourceError):
    """No permission, or something other than a file: a folder, a FIFO, a socket, a device."""

    code = "source_unreadable"


class SourceUnavailable(SourceError):
    """The storage failed for now: an input/output error, a stale mount, too many open files."""

    code = "source_unavailable"
    retryable: ClassVar[bool] = True


class SourceTooLarge(SourceError):
    """The source holds more bytes than allowed."""

    code = "source_too_large"


class SourceChanged(SourceError):
    """The file was written while it was read, so its bytes may be a mixture."""

    code = "source_changed"
    retryable: ClassVar[bool] = True


class UnsupportedSource(SourceError):
    """The source's scheme is not one that can be read."""

    code = "unsupported_source"


class UnsupportedMedia(IngestError):
    """There is no parser for what the bytes are."""

    code = "unsupported_media"


class ParserMissing(IngestError):
    """The library that parses this media type is not installed on this worker."""

    code = "parser_missing"


class PoolClosed(IngestError):
    """The pool of child processes was closed before the call began; another worker may do it."""

    code = "pool_closed"
    retryable: ClassVar[bool] = True


class ParseError(IngestError):
    """A document could not be turned into text and chunks."""

    code = "parse"


class ParseFailed(ParseError):
    """The parser refused the document."""

    code = "parse_failed"


class ParserMemory(ParseError):
    """The document needs more memory than a child process may take."""

    code = "parser_memory"


class ParseTimeout(ParseError):
    """The deadline of the child process passed and it was killed."""

    code = "parse_timeout"
    retryable: ClassVar[bool] = True


class ParserCrashed(ParseError):
    """The child process died: ``details["exit_code"]`` is negative for a signal."""

    code = "parser_crashed"
    retryable: ClassVar[bool] = True
