"""Parsers: from the bytes of one media type to titled text.

A parser is a module here with a function ``parse``; :func:`parser_for` finds it by media type. PDF or
office formats are one more module and its line in the table.
"""

from docyard_workers.ingest.parsing.document import ParsedDocument, TextFormat
from docyard_workers.ingest.parsing.registry import Parser, parse, parser_for, supported

__all__ = ["ParsedDocument", "Parser", "TextFormat", "parse", "parser_for", "supported"]
