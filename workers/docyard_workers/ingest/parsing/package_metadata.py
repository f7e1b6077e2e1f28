"""A Python package's METADATA or PKG-INFO: mail-like headers before a description."""

from __future__ import annotations

import re
from email.parser import Parser as HeaderParser
from typing import TYPE_CHECKING

from docyard_workers.ingest import media_type as types
from docyard_workers.ingest.decoding import decode
from docyard_workers.ingest.parsing import registry
from docyard_workers.ingest.parsing.document import ParsedDocument, title_from_name

if TYPE_CHECKING:
    from email.message import Message

_KEPT = ("Name", "Version", "Summary", "Author", "License", "License-Expression", "Home-page", "Keywords")
_FOLD = re.compile(r"\n(?:       \||        )")


def parse(data: bytes, media_type: str, name: str) -> ParsedDocument:
    """The description in the format that ``Description-Content-Type`` names, titled by package and version.

    A file of that name without such headers is plain text.
    """
    decoded = decode(data, media_type)
    message = HeaderParser().parsestr(decoded.text)
    if "Metadata-Version" not in message and "Name" not in message:
        return registry.parse(data, types.PLAIN, name)
    headers = {key: " ".join(str(message[key]).split()) for key in _KEPT if message[key]}
    body = registry.parse(_description(message).encode(), _body_type(message), name)
    summary = headers.get("Summary", "")
    title = " ".join(filter(None, (headers.get("Name"), headers.get("Version"))))
    return ParsedDocument(
        title=title or title_from_name(name),
        text=f"{summary}\n\n{body.text}".strip("\n"),
        format=body.format,
        metadata={key.lower().replace("-", "_"): value for key, value in headers.items()},
        warnings=(*decoded.warnings, *body.warnings),
    )


def _description(message: Message) -> str:
    folded = message["Description"]
    body = message.get_payload()
    return _FOLD.sub("\n", str(folded)) if folded else str(body)


def _body_type(message: Message) -> str:
    wanted = str(message["Description-Content-Type"] or types.RST).partition(";")[0].strip().lower()
    return wanted if wanted in (types.MARKDOWN, types.RST) else types.PLAIN
