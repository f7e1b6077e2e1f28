"""Which module parses which media type. Libraries are imported when the first such file comes."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast
from unicodedata import normalize

from docyard_workers.ingest import media_type as types
from docyard_workers.ingest.errors import ParserMissing, UnsupportedMedia

if TYPE_CHECKING:
    from docyard_workers.ingest.parsing.document import ParsedDocument

_MODULES = {
    types.PLAIN: "plain",
    types.MARKDOWN: "markdown",
    types.HTML: "html",
    types.RST: "rst",
    types.JSON: "json_text",
    types.JSON_LINES: "json_text",
    types.CSV: "csv_text",
    types.TSV: "csv_text",
    types.PACKAGE_METADATA: "package_metadata",
}


class Parser(Protocol):
    """A module of this package, or anything else with such a ``parse``."""

    def parse(self, data: bytes, media_type: str, name: str) -> ParsedDocument:
        """The text of a file named ``name``; raises an ``IngestError``, never gives an error as text."""
        ...


def supported(media_type: str) -> bool:
    """Whether some parser reads this media type: those of the table, and every other ``text/…``."""
    return media_type in _MODULES or media_type.startswith("text/")


def parser_for(media_type: str) -> Parser:
    """The parser of a media type: its own, or that of source code for any ``text/x-…``.

    Raises :class:`UnsupportedMedia` where there is none.
    """
    if not supported(media_type):
        raise UnsupportedMedia(
            f"no parser reads {media_type}",
            hint=f"Supported: text/*, {', '.join(sorted(_MODULES))}.",
            operation="ingest.parse",
            media_type=media_type,
        )
    module = _MODULES.get(media_type) or ("code" if media_type.startswith("text/x-") else "plain")
    return cast("Parser", import_module(f"{__package__}.{module}"))


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The text of a file, by the parser of its media type, in Unicode's composed form (NFC).

    An "é" of two code points would be another word than the "é" of one; search composes its queries too.
    """
    document = parser_for(media_type).parse(data, media_type, name)
    return replace(document, title=normalize("NFC", document.title), text=normalize("NFC", document.text))


def require(library: str, media_type: str) -> Any:
    """An optional library, imported. Raises :class:`ParserMissing` with the command that installs it."""
    try:
        return import_module(library)
    except ImportError as error:
        raise ParserMissing(
            f"{media_type} needs the library {library}, which this worker cannot import: {error}",
            hint="pip install 'docyard[parsers]'",
            operation="ingest.parse",
            media_type=media_type,
        ) from None
