"""Source code and settings files, as they are."""

from __future__ import annotations

import re

from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.parsing.document import ParsedDocument

_DOCSTRING = re.compile(r"""(?:[ \t]*(?:\#[^\n]*)?\n)*[rR]?(\"\"\"|''')\s*([^\n]+?)\s*(?:\1|\n)""")


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The code, titled by the file's whole name; a Python module's first sentence is its ``description``."""
    decoded = decode(data, media_type)
    metadata = {"programming_language": media_type.removeprefix("text/x-")}
    if media_type == "text/x-python" and (found := _DOCSTRING.match(decoded.text)):
        metadata["description"] = found[2]
    return ParsedDocument(
        title=name, text=decoded.text, format="code", metadata=metadata, warnings=decoded.warnings
    )
